"""The state folder."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pratique
from pratique.core import procfs
from pratique.fleet.errors import NoStackError, StackRunningError, StateDirError
from pratique.fleet.stack.home import (
    StackDescription,
    StateHome,
    is_locked,
    read_description,
    state_key,
    write_private,
)
from pratique.fleet.stack.settings import StackPaths, default_config, default_state_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

pytestmark = pytest.mark.unit


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    return StackPaths(root=tmp_path / "state", model_root=tmp_path / "models")


def description(url: str = "http://127.0.0.1:8080") -> StackDescription:
    return StackDescription(pid=7, url=url, state_dir="/s", engine="vllm", started_at=1.0, addresses={})


def test_folder_is_made_private_and_given_back(paths: StackPaths) -> None:
    with StateHome(paths) as home:
        assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
        home.describe(description())
        assert stat.S_IMODE(paths.description.stat().st_mode) == 0o600
        assert is_locked(paths)
        assert read_description(paths) == description()
    assert not is_locked(paths)
    assert not paths.description.exists()


def test_second_stack_is_told_who_is_there_and_how_to_stop_it(paths: StackPaths) -> None:
    with StateHome(paths) as home:
        home.describe(description())
        with pytest.raises(StackRunningError, match=r"8080, pid 7") as running, StateHome(paths):
            pass
        assert "pratique down --state-dir" in str(running.value.hint)
        assert is_locked(paths), "the refused one has not taken the lock away"


def test_second_stack_while_the_first_has_not_said_where_it_is(paths: StackPaths) -> None:
    with StateHome(paths), pytest.raises(StackRunningError, match="already runs"), StateHome(paths):
        pass


def test_what_a_killed_stack_left_is_removed(paths: StackPaths) -> None:
    paths.root.mkdir()
    write_private(paths.description, b"{}")
    paths.control.touch()
    with pytest.raises(NoStackError):
        read_description(paths)
    with StateHome(paths):
        assert not paths.description.exists()
        assert not paths.control.exists()


def test_processes_that_do_not_end_are_named(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(choose: Callable[[list[procfs.ProcessEntry]], Collection[int]]) -> set[int]:
        assert choose([]) == set()
        return {7, 8}

    monkeypatch.setattr(procfs, "kill_until_gone", refuse)
    with pytest.raises(StateDirError, match="7, 8"), StateHome(paths):
        pass
    assert not is_locked(paths)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    paths = StackPaths(root=tmp_path / "file" / "state", model_root=tmp_path)
    with pytest.raises(StateDirError, match="cannot be made"), StateHome(paths):
        pass


def test_lock_that_cannot_be_opened(paths: StackPaths) -> None:
    paths.lock.mkdir(parents=True)
    with pytest.raises(StateDirError, match="cannot be locked"), StateHome(paths):
        pass


def test_folder_that_cannot_be_written(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StateDirError, match="cannot be written"), StateHome(paths):
        pass


def test_broken_description_of_a_running_stack_is_no_crash(paths: StackPaths) -> None:
    with StateHome(paths):
        paths.description.write_text("{")
        with pytest.raises(NoStackError):
            read_description(paths)
        with pytest.raises(StackRunningError), StateHome(paths):
            pass


def test_key_names_the_folder_however_it_is_written(tmp_path: Path) -> None:
    assert state_key(tmp_path) == state_key(tmp_path / "x" / "..")
    assert state_key(tmp_path) != state_key(tmp_path / "x")


def test_default_folder_follows_xdg() -> None:
    assert default_state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/pratique")
    assert default_state_dir({}) == Path.home() / ".local" / "state" / "pratique"


def test_reference_application_is_the_default_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = default_config()
    assert found is not None
    assert found.parts[-2:] == ("manga-assistant", "pratique.toml")
    monkeypatch.setattr(pratique, "__file__", str(tmp_path / "a" / "b" / "__init__.py"))
    assert default_config() is None
