"""Image layouts: what was written is read back, what was changed on disk is refused, images travel whole."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pratique.release.errors import ConflictError, NotFoundError, VerificationError
from pratique.release.registry.errors import ManifestError, RepositoryNameError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST
from pratique.release.registry.layout import ImageLayout, LayoutError, copy_image, pull_image, push_image
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

REPOSITORY = "registry.test/app"


@pytest.fixture
def layout(tmp_path: Path) -> ImageLayout:
    return ImageLayout(tmp_path / "layout")


def image_of(place: Any, name: str = "a") -> bytes:
    config = place.put_blob(json.dumps({"name": name}).encode())
    layer = place.put_blob(name.encode() * 1000)
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": {"mediaType": "a/config", "digest": config.digest, "size": config.size_bytes},
            "layers": [{"mediaType": "a/layer", "digest": layer.digest, "size": layer.size_bytes}],
        }
    ).encode()


def index_of(*digests: Digest, media_type: str = IMAGE_MANIFEST) -> bytes:
    children = [{"mediaType": media_type, "digest": digest, "size": 1} for digest in digests]
    return json.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": children}).encode()


def test_what_was_written_is_read_by_tag_and_by_digest(layout: ImageLayout, tmp_path: Path) -> None:
    content = image_of(layout)
    digest = layout.put_manifest("v1", content, IMAGE_MANIFEST)
    reopened = ImageLayout(tmp_path / "layout")
    assert reopened.manifest("v1") == reopened.manifest(digest)
    assert reopened.manifest(digest).content == content
    assert reopened.tags() == ["v1"]
    layout.put_manifest("v1", image_of(layout, "b"), IMAGE_MANIFEST)
    assert reopened.manifest("v1").digest != digest
    assert reopened.manifest(digest).content == content
    assert sorted(file.name for file in (tmp_path / "layout").iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_a_manifest_under_its_digest_is_listed_once(layout: ImageLayout, tmp_path: Path) -> None:
    content = image_of(layout)
    for _ in range(2):
        layout.put_manifest(digest_of(content), content, IMAGE_MANIFEST)
    assert len(json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]) == 1
    with pytest.raises(VerificationError):
        layout.put_manifest(digest_of(b"other"), content, IMAGE_MANIFEST)


def test_what_is_not_there_is_not_found(layout: ImageLayout) -> None:
    for reference in ("v1", digest_of(b"other")):
        with pytest.raises(NotFoundError):
            layout.manifest(reference)
    with pytest.raises(NotFoundError), layout.open_blob(digest_of(b"other")):
        pass
    with pytest.raises(RepositoryNameError):
        layout.manifest("../../etc/passwd")


def test_files_that_were_changed_are_refused(layout: ImageLayout, tmp_path: Path) -> None:
    digest = layout.put_manifest("v1", image_of(layout), IMAGE_MANIFEST)
    blob = layout.put_blob(b"layer")
    folder = tmp_path / "layout" / "blobs" / "sha256"
    (folder / digest[7:]).write_bytes(b"{}")
    (folder / blob.digest[7:]).write_bytes(b"other")
    with pytest.raises(VerificationError):
        layout.manifest("v1")
    with layout.open_blob(blob.digest) as stream, pytest.raises(VerificationError):
        stream.read()
    (folder / digest[7:]).write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(VerificationError, match="at most"):
        layout.manifest("v1")


def test_an_index_that_is_none_is_refused(layout: ImageLayout, tmp_path: Path) -> None:
    (tmp_path / "layout" / "index.json").write_text("[]")
    with pytest.raises(ManifestError):
        layout.tags()


def test_a_manifest_that_has_no_type_needs_an_index_that_knows_it(layout: ImageLayout) -> None:
    for content in (b"{}", b"[]"):
        blob = layout.put_blob(content)
        with pytest.raises(ManifestError):
            layout.manifest(blob.digest)


def test_folders_of_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(LayoutError, match="not empty"):
        ImageLayout(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LayoutError):
        ImageLayout(tmp_path / "file")
    for number, mark in enumerate(('{"imageLayoutVersion":"2.0.0"}', "x")):
        folder = tmp_path / f"layout-{number}"
        folder.mkdir()
        (folder / "oci-layout").write_text(mark)
        with pytest.raises(LayoutError):
            ImageLayout(folder)


def test_a_write_that_fails_leaves_nothing(layout: ImageLayout, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        layout.put_blob(tmp_path / "none")
    (tmp_path / "layout" / "index.json").mkdir()
    with pytest.raises(LayoutError):
        layout.put_manifest("v1", image_of(layout), IMAGE_MANIFEST)
    assert not list((tmp_path / "layout").rglob(".*"))


def test_writers_at_once_lose_no_tag(layout: ImageLayout) -> None:
    contents = {f"v{number}": image_of(layout, str(number)) for number in range(8)}
    threads = [
        threading.Thread(target=layout.put_manifest, args=(tag, content, IMAGE_MANIFEST))
        for tag, content in contents.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert layout.tags() == sorted(contents)


def test_an_index_travels_with_all_that_it_lists_and_back(layout: ImageLayout, tmp_path: Path) -> None:
    children = [layout.put_manifest(digest_of(c), c, IMAGE_MANIFEST) for c in (image_of(layout), image_of(layout, "b"))]
    digest = layout.put_manifest("all", index_of(*children), IMAGE_INDEX)
    registry = MemoryRegistry()
    assert push_image(layout, "all", registry, REPOSITORY, "v1") == digest
    assert registry.manifest(REPOSITORY, "v1").digest == digest
    back = ImageLayout(tmp_path / "back")
    assert pull_image(registry, REPOSITORY, "v1", back) == digest
    assert back.manifest(children[1]) == layout.manifest(children[1])
    assert back.tags() == []
    layout.put_manifest("other", image_of(layout, "c"), IMAGE_MANIFEST)
    with pytest.raises(ConflictError):
        push_image(layout, "other", registry, REPOSITORY, "v1")


class Endless(MemoryRegistry):
    """Sends zeros where a blob is asked for, until somebody stops reading."""

    num_sent = 0

    @contextlib.contextmanager
    def open_blob(self, repository: str, digest: Digest) -> Iterator[BinaryIO]:
        del repository, digest
        registry = self

        class Zeros(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def readinto(self, buffer: Any) -> int:
                registry.num_sent += len(buffer)
                assert registry.num_sent < 32 * 1024 * 1024, "nobody stops reading"
                return len(buffer)

        yield io.BufferedReader(Zeros())


def test_a_blob_that_does_not_end_fills_no_disk(layout: ImageLayout, tmp_path: Path) -> None:
    registry = Endless()
    content = image_of(layout)
    push_image(layout, layout.put_manifest("v0", content, IMAGE_MANIFEST), registry, REPOSITORY)
    with pytest.raises(VerificationError, match="as its manifest says, got more"):
        pull_image(registry, REPOSITORY, digest_of(content), ImageLayout(tmp_path / "back"))


def test_an_index_deeper_or_wider_than_anybody_builds_is_not_copied(
    layout: ImageLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = layout.put_manifest("v0", image_of(layout), IMAGE_MANIFEST)
    media_type = IMAGE_MANIFEST
    for _ in range(5):
        content = index_of(digest, media_type=media_type)
        digest = layout.put_manifest(digest_of(content), content, IMAGE_INDEX)
        media_type = IMAGE_INDEX
    with pytest.raises(VerificationError, match="deep"):
        push_image(layout, digest, MemoryRegistry(), REPOSITORY)
    monkeypatch.setattr("pratique.release.registry.layout._MAX_MANIFESTS", 0)
    with pytest.raises(VerificationError):
        copy_image(layout, "v0", layout)
