"""Models in a registry: what arrives is what was pushed, or nothing does."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest
from tests.unit.release.models.model_parts import WEIGHTS, file, write_model

from pratique.cli._models import artifact_of
from pratique.inference.artifacts.manifest import check_layout, verify
from pratique.inference.errors import ArtifactError
from pratique.release.errors import ConflictError, EvidenceError, NotFoundError, VerificationError
from pratique.release.models import store
from pratique.release.models.artifact import ArtifactFormError, ModelArtifact, write_artifact
from pratique.release.models.store import ModelFolderError, pull_model, push_model
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.values import Digest, Subject, digest_of

pytestmark = pytest.mark.unit

REPOSITORY = "registry.example/models/tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny")


def described(folder: Path) -> ModelArtifact:
    return artifact_of(verify(folder), folder, base=None)


def push(registry: MemoryRegistry, folder: Path) -> Subject:
    return Subject(REPOSITORY, push_model(registry, REPOSITORY, described(folder), folder=folder))


class LyingRegistry(MemoryRegistry):
    """Sends something else for one blob."""

    def __init__(self, digest: Digest, content: bytes) -> None:
        super().__init__()
        self._lie = {digest: content}

    def open_blob(self, repository: str, digest: Digest) -> AbstractContextManager[BinaryIO]:
        return self._opened(repository, digest)

    @contextmanager
    def _opened(self, repository: str, digest: Digest) -> Iterator[BinaryIO]:
        with super().open_blob(repository, digest) as real:
            yield io.BytesIO(self._lie[digest]) if digest in self._lie else real


@pytest.mark.parametrize("content", [WEIGHTS + b"and more", WEIGHTS[:-1]])
def test_a_file_of_another_size_leaves_nothing_behind(folder: Path, tmp_path: Path, content: bytes) -> None:
    registry = LyingRegistry(digest_of(WEIGHTS), content)
    subject = push(registry, folder)
    with pytest.raises(VerificationError, match=r"model\.safetensors"):
        pull_model(registry, subject, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]


def test_names_that_lead_elsewhere_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    good = write_artifact(ModelArtifact(kind="model", name="x", files=(file("config.json"),)))
    registry.put_blob(REPOSITORY, b"{}")
    registry.put_blob(REPOSITORY, good.config)
    evil = good.manifest.replace(b"config.json", b"../../../oh")
    digest = registry.put_manifest(REPOSITORY, digest_of(evil), evil, IMAGE_MANIFEST)
    with pytest.raises(ArtifactFormError, match="plain"):
        pull_model(registry, Subject(REPOSITORY, digest), tmp_path / "a" / "b" / "copy")
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_no_model(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    image = msgspec.json.encode({"schemaVersion": 2, "mediaType": IMAGE_MANIFEST})
    digest = registry.put_manifest(REPOSITORY, digest_of(image), image, IMAGE_MANIFEST)
    with pytest.raises(ArtifactFormError, match="manifest of a model"):
        pull_model(registry, Subject(REPOSITORY, digest), tmp_path / "copy")


def test_what_the_check_refuses_does_not_get_its_name(folder: Path, tmp_path: Path) -> None:
    registry = MemoryRegistry()
    odd = replace(described(folder), files=(*described(folder).files, file("pytorch_model.bin", b"a pickle")))
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    subject = Subject(REPOSITORY, push_model(registry, REPOSITORY, odd, folder=folder))
    with pytest.raises(Exception, match=r"pytorch_model\.bin"):
        pull_model(registry, subject, tmp_path / "copy", check=check_layout)
    assert not (tmp_path / "copy").exists()


def test_a_folder_that_is_there_is_left_alone(folder: Path, tmp_path: Path) -> None:
    registry = MemoryRegistry()
    subject = push(registry, folder)
    for there in (tmp_path / "tiny", tmp_path / "dangling"):
        if there.name == "dangling":
            there.symlink_to(tmp_path / "nowhere")
        with pytest.raises(ConflictError, match="there already"):
            pull_model(registry, subject, there)


def test_what_is_not_in_the_registry_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        pull_model(MemoryRegistry(), Subject(REPOSITORY, digest_of(b"nothing")), tmp_path / "copy")


def test_no_room_is_seen_before_anything_is_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MemoryRegistry()
    subject = push(registry, folder)
    monkeypatch.setattr(store, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(ModelFolderError, match="bytes free"):
        pull_model(registry, subject, tmp_path / "copy")


def test_a_place_that_cannot_be_written_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MemoryRegistry()
    subject = push(registry, folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFolderError, match="cannot be used"):
        pull_model(registry, subject, tmp_path / "file" / "copy")
    monkeypatch.setattr(os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ModelFolderError, match="No space left"):
        pull_model(registry, subject, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("change", ["content", "link", "gone"])
def test_a_folder_that_changed_since_it_was_described_is_not_pushed(folder: Path, change: str) -> None:
    artifact, path = described(folder), folder / "config.json"
    content = path.read_bytes()
    path.unlink()
    if change == "content":
        path.write_bytes(content + b" ")
    elif change == "link":
        path.symlink_to("/etc/hostname")
    registry = MemoryRegistry()
    with pytest.raises(ModelFolderError if change == "gone" else EvidenceError, match=r"config\.json"):
        push_model(registry, REPOSITORY, artifact, folder=folder)
    with pytest.raises(NotFoundError):
        registry.manifest(REPOSITORY, write_artifact(artifact).digest)


def test_what_was_pushed_comes_back_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    registry = MemoryRegistry()
    digest = push_model(registry, REPOSITORY, described(folder), folder=folder, tag="v1")
    assert registry.manifest(REPOSITORY, "v1").digest == digest
    pulled = pull_model(registry, Subject(REPOSITORY, digest), tmp_path / "copy", check=check_layout)
    assert pulled == described(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()
    }
    verify(tmp_path / "copy")


def test_the_same_folder_is_the_same_artifact_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert write_artifact(described(tmp_path / "elsewhere")).digest == write_artifact(described(folder)).digest


def test_a_folder_that_is_not_as_imported_is_not_described(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"extra\.json is not in the manifest"):
        described(folder)
