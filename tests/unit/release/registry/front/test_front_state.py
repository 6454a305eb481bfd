"""Leases of tags, and the settings that a front cannot run with."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pratique.release.registry.errors import ListenError, StateError
from pratique.release.registry.front import serve as serving
from pratique.release.registry.front.serve import FrontSettingsError, require_sound
from pratique.release.registry.front.state import FrontState
from pratique.release.registry.settings import FrontSettings

pytestmark = pytest.mark.unit

UPSTREAM = "http://127.0.0.1:5000"


class Now:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def two(tmp_path: Path, now: Now) -> Iterator[tuple[FrontState, FrontState]]:
    states = [FrontState(tmp_path / "state", UPSTREAM, lease_seconds=10, monotonic=now) for _ in range(2)]
    yield states[0], states[1]
    for state in states:
        state.close()


def test_a_lease_has_one_holder_until_it_is_given_back(two: tuple[FrontState, FrontState]) -> None:
    one, other = two
    assert one.take("a") == 1010
    assert (other.take("a"), one.take("a")) == (None, None)
    assert other.take("b") is not None
    other.give_back("a")  # not its own
    assert other.take("a") is None
    one.give_back("a")
    assert other.take("a") is not None


def test_a_lease_of_one_that_was_killed_runs_out(two: tuple[FrontState, FrontState], now: Now) -> None:
    one, other = two
    one.take("a")
    now.seconds += 10.1
    assert other.take("a") is not None


def test_a_lease_in_doubt_lasts_from_when_doubt_began(two: tuple[FrontState, FrontState], now: Now) -> None:
    one, other = two
    one.take("a")
    now.seconds += 9
    one.keep_closed("a")
    one.give_back("a")  # a later one of this process does not end it
    now.seconds += 9
    assert (one.take("a"), other.take("a")) == (None, None)
    now.seconds += 1.1
    assert other.take("a") is not None


def test_a_lease_from_before_the_machine_started_is_void(two: tuple[FrontState, FrontState], now: Now) -> None:
    one, other = two
    one.take("a")
    now.seconds = 5.0
    assert other.take("a") == 15


def test_the_state_of_another_registry_or_program_is_not_used(tmp_path: Path) -> None:
    FrontState(tmp_path, UPSTREAM, lease_seconds=1).close()
    with pytest.raises(StateError, match="belongs to the front of"):
        FrontState(tmp_path, "http://127.0.0.1:5001", lease_seconds=1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    connection = sqlite3.connect(foreign / "front.db")
    connection.execute("CREATE TABLE x (y)")
    connection.close()
    with pytest.raises(StateError, match="another program"):
        FrontState(foreign, UPSTREAM, lease_seconds=1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match="cannot be made"):
        FrontState(tmp_path / "file" / "x", UPSTREAM, lease_seconds=1)
    (foreign / "front.db").write_bytes(b"no database, but of some length" * 100)
    with pytest.raises(StateError, match="cannot be used"):
        FrontState(foreign, UPSTREAM, lease_seconds=1)


@pytest.mark.parametrize(
    "changes",
    [{"upstream": ""}, {"upstream": "registry.test"}, {"upstream": "ftp://registry.test"},
     {"upstream": UPSTREAM + "/v2"}, {"upstream": UPSTREAM + "/"},
     {"state_dir": None}, {"mutable_tags": ("(",)}, {"host": "0.0.0.0"}, {"host": "::"}],
)  # fmt: skip
def test_settings_that_would_be_open_or_lead_nowhere_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    given: dict[str, Any] = {"upstream": UPSTREAM, "state_dir": tmp_path} | changes
    with pytest.raises(FrontSettingsError):
        require_sound(FrontSettings(**given))


@pytest.mark.parametrize("changes", [{}, {"host": "::1"}, {"host": "0.0.0.0", "allow_remote": True}])
def test_settings_that_are_sound_name_the_state(tmp_path: Path, changes: dict[str, Any]) -> None:
    given: dict[str, Any] = {"upstream": "https://registry.test:5000", "state_dir": tmp_path} | changes
    assert require_sound(FrontSettings(**given)) == tmp_path


def test_an_address_that_is_taken_or_nobodys_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = FrontSettings(upstream=UPSTREAM, state_dir=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ListenError, match="in use"):
            serving.serve(settings, announce=print)
    remote = FrontSettings(upstream=UPSTREAM, state_dir=tmp_path, host="192.0.2.1", allow_remote=True)
    with pytest.raises(ListenError):
        serving.serve(remote, announce=print)
