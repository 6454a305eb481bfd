"""A server that requires released artifacts: files that differ from what was signed are never loaded."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from pratique.core.errors import RefusedError
from pratique.core.settings import SettingsError
from pratique.inference.artifacts.manifest import (
    MANIFEST,
    UnreadableError,
    VerificationCancelledError,
    read_manifest,
    write_manifest,
)
from pratique.inference.artifacts.released import check_released
from pratique.inference.engines.interface import Unguarded
from pratique.inference.errors import UnreleasedArtifactError, UnsafeWeightsError
from pratique.inference.model_files import ModelFiles
from pratique.inference.run import build
from pratique.inference.settings import ArtifactSettings, InferenceSettings, ModelSettings

pytestmark = pytest.mark.unit

HEADER = b'{"a":{"dtype":"U8","shape":[100],"data_offsets":[0,100]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(100)
BASE = "sha256:" + "b" * 64


def write(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    write_manifest(folder, name=folder.name, origin="a test", licence="MIT")
    return folder


@dataclass(frozen=True)
class Release:
    """What was released, as somebody who knows says it."""

    files: Mapping[str, tuple[int, str]]
    digest: str = BASE
    kind: Literal["model", "adapter"] = "model"
    base: str | None = None

    def told(self) -> dict[str, object]:
        return {"digest": self.digest}


def release(folder: Path) -> Release:
    """Release a folder as it is now."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    return Release({name: (len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in contents.items()})


@dataclass
class Book:
    """Knows what was released."""

    known: dict[Path, Release] = field(default_factory=dict)

    def __call__(self, folder: Path) -> Release:
        if folder not in self.known:
            raise RefusedError("nobody signed it", hint="Sign it.")
        return self.known[folder]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny")


@pytest.fixture
def book(model: Path) -> Book:
    return Book({model: release(model)})


def check_all(files: ModelFiles) -> ModelFiles:
    files.check()
    files.verify(lambda _share: None)
    files.confirm()
    return files


def test_what_nobody_released_is_refused_with_the_reason(model: Path) -> None:
    with pytest.raises(UnreleasedArtifactError, match="may not be loaded: nobody signed it") as refused:
        check_all(ModelFiles(model, admit=Book()))
    assert (refused.value.code, refused.value.hint) == ("unreleased_artifact", "Sign it.")


def flip(model: Path) -> None:
    (model / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")


def flip_and_record(model: Path) -> None:
    flip(model)
    write_manifest(model, name="tiny", origin="a test", licence="MIT")


def forge_the_manifest(model: Path) -> None:
    raw = (model / MANIFEST).read_text()
    (model / MANIFEST).write_text(raw.replace("MIT", "BSD"))


def pad_the_manifest(model: Path) -> None:
    (model / MANIFEST).write_bytes((model / MANIFEST).read_bytes() + b"\n")


def add(model: Path) -> None:
    (model / "extra.json").write_text("{}")


def add_and_record(model: Path) -> None:
    add(model)
    write_manifest(model, name="tiny", origin="a test", licence="MIT")


def remove(model: Path) -> None:
    (model / "config.json").unlink()


def remove_and_record(model: Path) -> None:
    remove(model)
    write_manifest(model, name="tiny", origin="a test", licence="MIT")


def link(model: Path) -> None:
    shutil.copy(model / "config.json", model.parent / "outside.json")
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(model.parent / "outside.json")


def truncate(model: Path) -> None:
    (model / "model.safetensors").write_bytes(WEIGHTS[:-1])


@pytest.mark.parametrize(
    "tamper",
    [
        flip,
        flip_and_record,
        forge_the_manifest,
        pad_the_manifest,
        add,
        add_and_record,
        remove,
        remove_and_record,
        link,
        truncate,
    ],
)
def test_a_folder_that_differs_is_refused_as_unreleased(
    model: Path, book: Book, tamper: Callable[[Path], None]
) -> None:
    tamper(model)
    with pytest.raises(UnreleasedArtifactError):
        check_all(ModelFiles(model, admit=book))


def test_a_pickle_is_refused_as_one(model: Path, book: Book) -> None:
    (model / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UnsafeWeightsError):
        check_all(ModelFiles(model, admit=book))


def test_a_folder_without_a_manifest_cannot_be_judged(model: Path, book: Book) -> None:
    (model / MANIFEST).unlink()
    with pytest.raises(UnreadableError):
        check_all(ModelFiles(model, admit=book))


def test_a_file_exchanged_during_the_load_is_found(model: Path, book: Book) -> None:
    files = check_all(ModelFiles(model, admit=book))
    os.utime(model / "config.json", (1, 1))
    with pytest.raises(UnreleasedArtifactError, match="changed while"):
        files.confirm()


def test_an_adapter_is_no_model(model: Path) -> None:
    book = Book({model: replace(release(model), kind="adapter", base=BASE)})
    with pytest.raises(UnreleasedArtifactError, match="released as 'adapter'"):
        check_all(ModelFiles(model, admit=book))


@pytest.fixture
def adapter(model: Path, book: Book) -> Path:
    folder = write(model.parent / "lora")
    book.known[folder] = replace(release(folder), digest="sha256:" + "a" * 64, kind="adapter", base=BASE)
    return folder


@pytest.mark.parametrize("runs", [False, True])
def test_an_adapter_of_another_model_is_refused(model: Path, adapter: Path, book: Book, runs: bool) -> None:
    book.known[adapter] = replace(book.known[adapter], base="sha256:" + "c" * 64)
    files = ModelFiles(model, adapters=() if runs else [adapter], admit=book)
    with pytest.raises(UnreleasedArtifactError, match="was released for the model sha256:c"):
        check_all(files).admit(adapter)


@pytest.mark.parametrize("runs", [False, True])
def test_a_model_in_an_adapters_place_is_refused(model: Path, adapter: Path, book: Book, runs: bool) -> None:
    book.known[adapter] = release(adapter)
    files = ModelFiles(model, adapters=() if runs else [adapter], admit=book)
    with pytest.raises(UnreleasedArtifactError, match="released as 'model'"):
        check_all(files).admit(adapter)


@pytest.mark.parametrize("tamper", [flip, flip_and_record, add, remove_and_record])
def test_an_adapter_that_differs_is_refused_while_the_server_runs(
    model: Path, adapter: Path, book: Book, tamper: Callable[[Path], None]
) -> None:
    files = check_all(ModelFiles(model, admit=book))
    tamper(adapter)
    with pytest.raises(UnreleasedArtifactError):
        files.admit(adapter)
    assert [one["folder"] for one in files.released()] == [str(model)]


def test_a_swapped_adapter_is_refused(model: Path, adapter: Path, book: Book) -> None:
    other = write(model.parent / "other")
    flip_and_record(other)
    files = check_all(ModelFiles(model, admit=book))
    shutil.rmtree(adapter)
    other.rename(adapter)
    with pytest.raises(UnreleasedArtifactError):
        files.admit(adapter)


def test_an_adapter_that_changes_while_it_is_loaded_is_found(model: Path, adapter: Path, book: Book) -> None:
    confirm = check_all(ModelFiles(model, admit=book)).admit(adapter)
    confirm()
    os.utime(adapter / "config.json", (1, 1))
    with pytest.raises(UnreleasedArtifactError, match="changed while"):
        confirm()


def test_what_was_verified_is_told(model: Path, adapter: Path, book: Book) -> None:
    files = check_all(ModelFiles(model, adapters=[adapter], admit=book))
    assert files.released() == [
        {"folder": str(model), "digest": BASE},
        {"folder": str(adapter), "digest": "sha256:" + "a" * 64},
    ]
    assert check_all(ModelFiles(model)).released() == []


def test_the_load_waits_for_the_verification(model: Path, book: Book) -> None:
    files = ModelFiles(model, admit=book)
    files.check()
    waited = threading.Thread(target=files.wait_verified)
    waited.start()
    files.verify(lambda _share: None)
    assert waited.is_alive()
    files.cancel()  # as the slot does once `verify` has ended
    waited.join(10)
    assert not waited.is_alive()


def test_a_verification_that_failed_lets_nobody_read(model: Path, book: Book) -> None:
    files = ModelFiles(model, admit=book)
    files.check()
    flip(model)
    with pytest.raises(UnreleasedArtifactError):
        files.verify(lambda _share: None)
    files.cancel()
    with pytest.raises(VerificationCancelledError):
        files.wait_verified()


def test_nobody_waits_where_nothing_is_required(model: Path) -> None:
    ModelFiles(model).wait_verified()
    ModelFiles(model).admit(model / "nowhere")()
    Unguarded().wait_verified()
    Unguarded().admit(model)()


REQUIRED = InferenceSettings(artifact=ArtifactSettings(require=True))


def test_a_server_without_anybody_who_knows_releases_does_not_start() -> None:
    with pytest.raises(SettingsError, match="nobody is there who knows"):
        build(REQUIRED)


def test_a_simulated_engine_cannot_be_released(book: Book) -> None:
    with pytest.raises(SettingsError, match="simulated engine"):
        build(InferenceSettings(engine="simulated", artifact=ArtifactSettings(require=True)), book)


def test_vllms_own_way_to_load_adapters_is_refused(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "1")
    with pytest.raises(SettingsError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        build(REQUIRED, book)


def test_every_model_of_a_server_is_asked_about(model: Path, book: Book, tmp_path: Path) -> None:
    models = (ModelSettings(name="a", folder=model), ModelSettings(name="b", folder=tmp_path / "unsigned"))
    server = build(InferenceSettings(models=models, artifact=ArtifactSettings(require=True)), book)
    first, second = (slot.artifacts for slot in server.slots)
    assert first.check is not None
    assert second.check is not None
    first.check()
    assert server.slots[0].status()["released"] == [{"folder": str(model), "digest": BASE}]
    with pytest.raises(UnreleasedArtifactError):
        second.check()


def test_without_the_requirement_nobody_is_asked(model: Path) -> None:
    server = build(InferenceSettings(model=model), Book())
    assert server.slots[0].artifacts.check is not None
    server.slots[0].artifacts.check()


def test_a_manifest_that_vanishes_after_it_was_read_is_noticed(model: Path) -> None:
    manifest, released = read_manifest(model), release(model)
    check_released(model, manifest, released)
    (model / MANIFEST).unlink()
    with pytest.raises(UnreleasedArtifactError, match="cannot be read"):
        check_released(model, manifest, released)
