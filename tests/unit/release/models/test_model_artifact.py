"""A model's manifest: what no model has is refused, and what is read is what would be written."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.release.models.model_parts import ADAPTER, OTHER, TINY, file

from pratique.release.models import artifact as subject
from pratique.release.models.artifact import ArtifactFormError, ModelArtifact, ModelFile, read_artifact, write_artifact
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.manifests import read_manifest
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

HOSTILE = [
    "",
    ".",
    "..",
    "../escape",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "c:evil",
    ".hidden",
    "nul\x00byte",
    "line\nbreak",
    "\x9b31m",
    "x" * 256,
    "\udc80",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_out_of_the_folder_is_refused_written_and_read(name: str) -> None:
    with pytest.raises(ArtifactFormError):
        write_artifact(replace(TINY, files=(*TINY.files, file(name))))
    if "\udc80" in name:
        return  # no JSON can say it
    good = msgspec.json.decode(write_artifact(TINY).manifest)
    for key in ("org.cncf.model.filepath", "org.opencontainers.image.title"):
        good["layers"][0]["annotations"][key] = name
    with pytest.raises(ArtifactFormError):
        read_artifact(msgspec.json.encode(good))


@pytest.mark.parametrize(
    "pair",
    [
        ("Config.json", "config.json"),
        ("STRASSE.json", "straße.json"),
        ("café.json", "cafe\u0301.json"),
        ("twice.json", "twice.json"),
    ],
)
def test_names_that_some_file_systems_take_for_one_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(ArtifactFormError, match="some systems take for one"):
        write_artifact(replace(TINY, files=tuple(file(name) for name in pair)))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (replace(TINY, files=()), "1 to 10000 files"),
        (replace(TINY, name=""), "no name"),
        (replace(TINY, name="a\nb"), "not printable"),
        (replace(TINY, licence="x" * 5000), "too long"),
        (replace(TINY, base=OTHER), "a model names no base"),
        (replace(ADAPTER, base=None), "must name the digest"),
        (replace(TINY, kind="dataset"), "one of the kinds"),  # type: ignore[arg-type]
        (replace(TINY, files=(ModelFile("a", OTHER, -1),)), "-1 bytes"),
        (replace(TINY, files=(ModelFile("a", OTHER, 1 << 60),)), "bytes"),
    ],
)
def test_what_no_model_has_is_refused(changed: ModelArtifact, reason: str) -> None:
    with pytest.raises(ArtifactFormError, match=reason):
        write_artifact(changed)


def test_more_than_a_registry_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    huge = replace(TINY, files=tuple(file(f"{number:05}{'x' * 245}.json") for number in range(9_999)))
    with pytest.raises(ArtifactFormError, match="registries take"):
        write_artifact(huge)
    with pytest.raises(ArtifactFormError, match="at most"):
        read_artifact(b" " * (4 * 1024 * 1024 + 1))
    monkeypatch.setattr(subject, "MAX_FILES", 1)
    with pytest.raises(ArtifactFormError, match="1 to 1 files"):
        read_artifact(write_manifest_of_two())


def write_manifest_of_two() -> bytes:
    layers = [
        {"digest": digest_of(b"{}"), "size": 2, "annotations": {"org.cncf.model.filepath": name}} for name in ("a", "b")
    ]
    said = {"pratique.model.kind": "model", "pratique.model.name": "two"}
    return msgspec.json.encode({"artifactType": subject.ARTIFACT_TYPE, "layers": layers, "annotations": said})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"artifactType": "application/vnd.oci.image"}',
        b'{"artifactType": "application/vnd.cncf.model.manifest.v1+json", "layers": [{"digest": "md5:1", "size": 1}]}',
    ],
)
def test_what_is_no_models_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactFormError):
        read_artifact(content)


def edits() -> list[tuple[str, object]]:
    good = msgspec.json.decode(write_artifact(TINY).manifest)
    layers = good["layers"]
    return [
        ("an unknown member", {**good, "extra": 1}),
        ("another order", {**good, "layers": layers[::-1]}),
        ("another configuration", {**good, "config": {**good["config"], "digest": OTHER}}),
        ("another media type", {**good, "layers": [{**layers[0], "mediaType": "text/plain"}, *layers[1:]]}),
        ("a hidden annotation", {**good, "annotations": {**good["annotations"], "x": "y"}}),
        ("a subject", {**good, "subject": {"mediaType": IMAGE_MANIFEST, "digest": OTHER, "size": 1}}),
        (
            "two names for a file",
            {
                **good,
                "layers": [
                    {
                        **layers[0],
                        "annotations": {
                            "org.cncf.model.filepath": "config.json",
                            "org.opencontainers.image.title": "other.json",
                        },
                    },
                    *layers[1:],
                ],
            },
        ),
    ]


@pytest.mark.parametrize(("what", "manifest"), edits())
def test_a_manifest_with_something_of_its_own_is_refused(what: str, manifest: object) -> None:
    with pytest.raises(ArtifactFormError, match="not what is written here"):
        read_artifact(msgspec.json.encode(manifest))


@pytest.mark.parametrize("artifact", [TINY, ADAPTER, replace(TINY, licence=""), replace(TINY, licence="see LICENSE")])
def test_what_is_written_is_read_again(artifact: ModelArtifact) -> None:
    written = write_artifact(artifact)
    assert read_artifact(written.manifest) == artifact
    parts = read_manifest(written.manifest, IMAGE_MANIFEST)
    assert parts.artifact_type == subject.ARTIFACT_TYPE
    assert parts.config is not None
    assert parts.config.digest == digest_of(written.config)
    assert written.digest == digest_of(written.manifest)


def test_the_order_of_the_files_does_not_matter() -> None:
    assert write_artifact(replace(TINY, files=TINY.files[::-1])) == write_artifact(TINY)


def test_the_form_is_that_of_the_model_specification() -> None:
    written = write_artifact(replace(TINY, files=(*TINY.files, file("README.md"))))
    manifest, config = msgspec.json.decode(written.manifest), msgspec.json.decode(written.config)
    types = {one["annotations"]["org.cncf.model.filepath"]: one["mediaType"] for one in manifest["layers"]}
    assert types == {
        "README.md": "application/vnd.cncf.model.doc.v1.raw",
        "config.json": "application/vnd.cncf.model.weight.config.v1.raw",
        "model.safetensors": "application/vnd.cncf.model.weight.v1.raw",
    }
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert config["modelfs"] == {"type": "layers", "diffIds": [one["digest"] for one in manifest["layers"]]}
    assert config["descriptor"] == {"name": "tiny", "licenses": ["Apache-2.0"]}


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
DIGESTS = st.binary(max_size=4).map(digest_of)


@settings(max_examples=50)
@given(st.lists(st.builds(ModelFile, NAMES, DIGESTS, st.integers(-2, 1 << 51)), max_size=4), NAMES, NAMES)
def test_whatever_is_accepted_comes_back_as_it_was(files: list[ModelFile], name: str, licence: str) -> None:
    artifact = ModelArtifact(kind="model", name=name, files=tuple(sorted(files)), licence=licence)
    try:
        written = write_artifact(artifact)
    except ArtifactFormError:
        return
    assert read_artifact(written.manifest) == artifact
    assert all("/" not in one.name and one.name not in {".", ".."} for one in artifact.files)


def test_one_changed_byte_is_another_artifact() -> None:
    changed = replace(TINY, files=(file("config.json", b"{ }"), TINY.files[1]))
    assert write_artifact(changed).digest != write_artifact(TINY).digest
    assert Digest(write_artifact(TINY).digest).startswith("sha256:")
