"""A served model's files from the server's side: what is checked when, what is counted, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pratique.inference.artifacts.failures import count_failures, default_failures_file
from pratique.inference.artifacts.manifest import MANIFEST, VerificationCancelledError, write_manifest
from pratique.inference.errors import ArtifactError, UnsafeWeightsError
from pratique.inference.model_files import ModelFiles
from pratique.inference.run import build
from pratique.inference.settings import InferenceSettings

pytestmark = pytest.mark.unit

HEADER = b'{"a":{"dtype":"U8","shape":[100],"data_offsets":[0,100]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(100)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def model(name: str = "tiny", *, recorded: bool = True) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(WEIGHTS)
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").write_text("{}")
        if recorded:
            write_manifest(folder, name=name, origin="a test", licence="MIT")
        return folder

    return model


def check_all(files: ModelFiles) -> list[float]:
    shares: list[float] = []
    files.check()
    files.verify(shares.append)
    files.confirm()
    return shares


def test_a_model_and_its_adapters_are_verified_as_one(make: Callable[..., Path]) -> None:
    folders = [make("base"), make("first"), make("second")]
    shares = check_all(ModelFiles(folders[0], adapters=folders[1:]))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_a_damaged_adapter_is_named(make: Callable[..., Path]) -> None:
    base, adapter = make("base"), make("adapter")
    (adapter / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"adapter/model\.safetensors has SHA-256"):
        check_all(ModelFiles(base, adapters=[adapter]))


def test_without_a_manifest_only_what_can_be_seen_is_checked(make: Callable[..., Path]) -> None:
    folder = make(recorded=False)
    assert check_all(ModelFiles(folder)) == []
    (folder / "model.safetensors").write_bytes(b"\x80\x04\x95 a pickle")
    with pytest.raises(UnsafeWeightsError):
        check_all(ModelFiles(folder))


def test_a_manifest_can_be_required(make: Callable[..., Path]) -> None:
    with pytest.raises(ArtifactError, match="has no manifest"):
        check_all(ModelFiles(make(recorded=False), require_manifest=True))


def test_a_swapped_manifest_is_found_by_the_one_kept_elsewhere(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make()
    kept = tmp_path / "kept.json"
    kept.write_bytes((folder / MANIFEST).read_bytes())
    assert check_all(ModelFiles(folder, recorded=kept))
    (folder / "config.json").write_text('{"changed": 1}')
    write_manifest(folder, name="tiny", origin="a test", licence="MIT")
    assert check_all(ModelFiles(folder))
    with pytest.raises(ArtifactError, match=r"config\.json"):
        check_all(ModelFiles(folder, recorded=kept))


def test_what_was_kept_elsewhere_binds_also_where_there_is_no_manifest(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_bytes((make("other") / MANIFEST).read_bytes())
    with pytest.raises(ArtifactError, match="has no manifest"):
        check_all(ModelFiles(make(recorded=False), recorded=kept))


def test_a_file_exchanged_while_it_was_loaded_is_found(make: Callable[..., Path]) -> None:
    folder = make()
    files = ModelFiles(folder)
    files.check()
    files.verify(lambda _share: None)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"config\.json changed while"):
        files.confirm()


def test_a_verification_nobody_waits_for_ends(make: Callable[..., Path]) -> None:
    files = ModelFiles(make())
    files.check()
    files.cancel()
    with pytest.raises(VerificationCancelledError):
        files.verify(lambda _share: None)


def test_failures_are_counted_for_the_artifact_and_forgotten_by_a_success(make: Callable[..., Path]) -> None:
    folder = make()
    first = ModelFiles(folder)
    first.check()
    assert first.count_failure("no memory") == 1
    second = ModelFiles(folder)
    second.check()
    assert second.count_failure("no memory") == 2
    second.forget_failures()
    assert second.count_failure("no memory") == 1


def test_a_folder_that_cannot_be_checked_is_counted_by_its_name(make: Callable[..., Path]) -> None:
    folder = make()
    (folder / MANIFEST).write_text("{")
    files = ModelFiles(folder)
    with pytest.raises(ArtifactError):
        files.check()
    assert files.count_failure("no manifest") == 1
    assert count_failures(default_failures_file(folder), str(folder)) == 1
    assert ModelFiles(folder).failures_before() == 1


def test_beside_a_folder_that_is_not_there_nothing_is_written(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "slip")
    with pytest.raises(ArtifactError):
        files.check()
    assert files.count_failure("nothing there") == 1
    assert list(tmp_path.iterdir()) == []
    assert ModelFiles(tmp_path / "slip", failures=tmp_path / "counted.json").count_failure("nothing there") == 1
    assert (tmp_path / "counted.json").exists()


def test_weights_without_a_tokenizer_are_refused_before_anything_is_loaded(make: Callable[..., Path]) -> None:
    folder = make(recorded=False)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match="has no tokenizer"):
        ModelFiles(folder).check()


def test_the_setting_of_a_recorded_manifest_is_heeded(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make()
    kept = tmp_path / "kept.json"
    kept.write_bytes((folder / MANIFEST).read_bytes())
    settings = InferenceSettings(model=folder, recorded_manifest=kept)
    check = build(settings).slots[0].artifacts.check
    assert check is not None
    check()
    (folder / "config.json").write_text('{"changed": 1}')
    write_manifest(folder, name="tiny", origin="a test", licence="MIT")
    with pytest.raises(ArtifactError, match=r"config\.json"):
        check()
