"""Layouts: the same inputs give the same bytes, and what was changed afterwards is found."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pratique.release.build.differences import Difference, differences_of
from pratique.release.build.layout import Layer, LayoutImage, add_layer, blob_path, copy_layer, read_layout, write_image
from pratique.release.build.normalise import normalise_config, rfc3339
from pratique.release.errors import EvidenceError
from pratique.release.registry.interface import IMAGE_INDEX
from pratique.release.registry.layout import ImageLayout
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

EXPORTED = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-01-01T00:00:00Z",
    "container": "0123",
    "container_config": {"Hostname": "0123"},
    "parent": "sha256:1",
    "config": {
        "Hostname": "0123",
        "User": "1000",
        "Env": ["B=1", "A=2"],
        "Entrypoint": ["x"],
        "Volumes": {},
        "Labels": {"own": "1", "org.opencontainers.image.revision": "forged"},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 15000000000},
    },
    "history": [{"created": "x", "created_by": "RUN a", "comment": "FROM 0123", "empty_layer": True}],
}


def layer_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def image_in(folder: Path, *layers: bytes, **config: Any) -> LayoutImage:
    added = [add_layer(folder, io.BytesIO(content)) for content in layers]
    exported = json.dumps(EXPORTED | config).encode()
    text = normalise_config(exported, tuple(one.diff_id for one in added), {}, 0)
    return write_image(folder, text, added)


def test_the_configuration_keeps_what_follows_from_the_inputs() -> None:
    labels = {"org.opencontainers.image.revision": "abc"}
    config = json.loads(normalise_config(json.dumps(EXPORTED).encode(), (), labels, 1_700_000_000))
    assert config == {
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {
            "User": "1000",
            "Env": ["B=1", "A=2"],
            "Entrypoint": ["x"],
            "Labels": {"own": "1", "org.opencontainers.image.revision": "abc"},
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 15000000000},
        },
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [{"created": "x", "created_by": "RUN a", "empty_layer": True}],
    }
    assert rfc3339(0) == "1970-01-01T00:00:00Z"


def test_a_variant_of_the_architecture_is_kept() -> None:
    text = normalise_config(json.dumps(EXPORTED | {"variant": "v8"}).encode(), (), {}, 0)
    assert json.loads(text)["variant"] == "v8"


def test_a_configuration_that_is_none_is_refused() -> None:
    with pytest.raises(EvidenceError, match="a configuration that is none"):
        normalise_config(b"[]", (), {}, 0)


def test_the_same_layers_give_the_same_image_however_they_were_compressed(tmp_path: Path) -> None:
    content = layer_of(a=b"1", b=b"2")
    first = image_in(tmp_path / "a", content)
    second = image_in(tmp_path / "b", gzip.compress(content, 9))
    assert first.digest == second.digest
    assert read_layout(tmp_path / "a") == first
    assert differences_of(first, second) == ()


def test_a_layer_is_taken_over_as_it_lies(tmp_path: Path) -> None:
    first = image_in(tmp_path / "a", layer_of(a=b"1"))
    assert copy_layer(tmp_path / "b", first, first.layers[0]) == first.layers[0]
    with first.open_layer(first.layers[0]) as stream:
        assert blob_path(tmp_path / "b", first.layers[0].digest).read_bytes() == stream.read()


def test_what_was_changed_afterwards_is_found(tmp_path: Path) -> None:
    image = image_in(tmp_path / "a", layer_of(a=b"1"))
    layer = blob_path(image.folder, image.layers[0].digest)
    whole = layer.read_bytes()
    for changed in (whole[:-1], whole[:-1] + b"x"):
        layer.write_bytes(changed)
        with pytest.raises(EvidenceError, match="not what its digest and size say"):
            read_layout(image.folder)
    layer.unlink()
    with pytest.raises(EvidenceError, match=rf"there is no .*{layer.name}"):
        read_layout(image.folder)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (b"[]", "expected an image index"),
        (b'{"manifests":[]}', "one image, got 0"),
        (b'{"manifests":[{"mediaType":"a","digest":"sha256:1","size":1}]}', "a digest"),
    ],
)
def test_a_folder_without_one_image_is_refused(tmp_path: Path, index: bytes, said: str) -> None:
    ImageLayout(tmp_path)
    (tmp_path / "index.json").write_bytes(index)
    with pytest.raises(EvidenceError, match=said):
        read_layout(tmp_path)


def test_a_manifest_that_counts_other_layers_than_its_configuration_is_refused(tmp_path: Path) -> None:
    layer = add_layer(tmp_path, io.BytesIO(layer_of(a=b"1")))
    write_image(tmp_path, normalise_config(json.dumps(EXPORTED).encode(), (), {}, 0), [layer])
    with pytest.raises(EvidenceError, match="1 layers, and diff_ids of 0"):
        read_layout(tmp_path)


def test_a_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    image = image_in(tmp_path)
    write_image(tmp_path, b"{}", [])
    with pytest.raises(EvidenceError, match="is of no image"):
        read_layout(image.folder)


def test_an_index_without_end_is_not_read(tmp_path: Path) -> None:
    ImageLayout(tmp_path)
    (tmp_path / "index.json").write_bytes(bytes(5 * 1024 * 1024))
    with pytest.raises(EvidenceError, match="at most"):
        read_layout(tmp_path)


def tar_with(**fields: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("usr/bin/x")
        for name, value in fields.items():
            setattr(info, name, value)
        content = b"" if info.type != tarfile.REGTYPE else b"content"
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("fields", "what", "first", "second"),
    [
        ({"mode": 0o4755}, "mode", "0644", "4755"),
        ({"uid": 5}, "owner", "0:0", "5:0"),
        ({"mtime": 1_700_000_000}, "mtime", "0", "1.7e+09"),
        ({"type": tarfile.DIRTYPE}, "kind", "file", "directory"),
        ({"pax_headers": {"SCHILY.xattr.user.a": "b"}}, "attributes", "()", "(('SCHILY.xattr.user.a', 'b'),)"),
    ],
)
def test_a_difference_names_layer_file_and_what(
    tmp_path: Path, fields: dict[str, Any], what: str, first: str, second: str
) -> None:
    one, other = image_in(tmp_path / "a", b"", tar_with()), image_in(tmp_path / "b", b"", tar_with(**fields))
    [found] = [found for found in differences_of(one, other) if found.where != "config"]
    assert (found.where, found.path, found.what, found.first, found.second) == (
        "layer 2",
        "usr/bin/x",
        what,
        first,
        second,
    )
    assert str(found) == f"layer 2: usr/bin/x: {what}: {first} ≠ {second}"


def told(first: LayoutImage, second: LayoutImage) -> set[tuple[str, str, str]]:
    found = differences_of(first, second)
    return {(one.where, one.path, one.what) for one in found if not one.path.startswith("rootfs")}


def test_contents_links_order_and_missing_files_are_told(tmp_path: Path) -> None:
    first = image_in(tmp_path / "a", layer_of(a=b"1", b=b"2"), layer_of(a=b"1", b=b"2"), layer_of(a=b"1"))
    second = image_in(tmp_path / "b", layer_of(b=b"2", a=b"1"), layer_of(a=b"1", c=b"3"), layer_of(a=b"9"))
    assert told(first, second) == {
        ("layer 1", "a", "order"),
        ("layer 2", "b", "only in one"),
        ("layer 2", "c", "only in one"),
        ("layer 3", "a", "content"),
    }
    links = [image_in(tmp_path / f"l{n}", tar_with(type=tarfile.SYMTYPE, linkname=f"target-{n}")) for n in range(2)]
    assert told(*links) == {("layer 1", "usr/bin/x", "link")}


def test_members_of_the_configuration_and_numbers_of_layers_are_told(tmp_path: Path) -> None:
    first = image_in(tmp_path / "a", config={"Env": ["A=1"]})
    second = image_in(tmp_path / "b", layer_of(a=b"1"), config={"Env": ["A=2"], "User": "root"})
    assert told(first, second) == {
        ("config", "config.Env[0]", "value"),
        ("config", "config.User", "value"),
        ("manifest", "layers", "value"),
    }


def test_the_same_layer_compressed_otherwise_and_annotations_are_told(tmp_path: Path) -> None:
    first = image_in(tmp_path / "a", layer_of(a=b"1"))
    packed = gzip.compress(layer_of(a=b"1"), 1, mtime=7)
    second = image_in(tmp_path / "b", layer_of(a=b"1"))
    old = second.layers[0]
    other = Layer(digest_of(packed), len(packed), old.media_type, old.diff_id)
    blob_path(second.folder, other.digest).write_bytes(packed)
    assert told(first, write_image(second.folder, second.config, [other])) == {("layer 1", "", "content")}
    annotated = write_image(second.folder, second.config, second.layers, annotations={"a": "b"})
    assert told(first, annotated) == {("manifest", "annotations", "value")}


def test_the_same_paths_twice_are_told_by_number(tmp_path: Path) -> None:
    first = image_in(tmp_path / "a", layer_of(a=b"1"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for _ in range(2):
            info = tarfile.TarInfo("a")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"1"))
    second = image_in(tmp_path / "b", out.getvalue())
    assert told(first, second) == {("layer 1", "", "order")}


def test_differences_without_end_stop(tmp_path: Path) -> None:
    first = image_in(tmp_path / "a", layer_of(**{f"f{n}": b"" for n in range(1100)}))
    found = differences_of(first, image_in(tmp_path / "b", layer_of(a=b"1")))
    assert len(found) == 1000
    assert all(isinstance(one, Difference) for one in found)


def test_what_lists_no_configuration_is_no_image(tmp_path: Path) -> None:
    layout = ImageLayout(tmp_path)
    index = b'{"schemaVersion":2,"manifests":[]}'
    layout.put_manifest(digest_of(index), index, IMAGE_INDEX)
    with pytest.raises(EvidenceError, match="is of no image"):
        read_layout(tmp_path)


def test_a_manifest_of_another_size_than_it_is_listed_with_is_refused(tmp_path: Path) -> None:
    image_in(tmp_path, layer_of(a=b"1"))
    listed = json.loads((tmp_path / "index.json").read_bytes())
    listed["manifests"][0]["size"] += 1
    (tmp_path / "index.json").write_text(json.dumps(listed))
    with pytest.raises(EvidenceError, match="not what its digest and size say"):
        read_layout(tmp_path)


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="is no image layout"):
        read_layout(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_that_names_two_users_by_case_is_refused(tmp_path: Path) -> None:
    layer = add_layer(tmp_path, io.BytesIO(layer_of(a=b"1")))
    config = {"config": {"User": "1000", "user": "root"}, "rootfs": {"diff_ids": [layer.diff_id]}}
    write_image(tmp_path, json.dumps(config).encode(), [layer])
    with pytest.raises(EvidenceError, match="'user' stands twice"):
        read_layout(tmp_path)


def test_a_manifest_that_is_an_index_too_is_refused(tmp_path: Path) -> None:
    image = image_in(tmp_path, layer_of(a=b"1"))
    manifest = json.loads(image.manifest)
    content = json.dumps(manifest | {"manifests": [manifest["config"]]}).encode()
    blob_path(tmp_path, digest_of(content)).write_bytes(content)
    entry = {"mediaType": image.media_type, "digest": digest_of(content), "size": len(content)}
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with pytest.raises(EvidenceError, match="parts of an image and of an index"):
        read_layout(tmp_path)
