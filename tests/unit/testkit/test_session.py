"""What a process of a run makes when it is first needed, and what it does not make before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.errors import HostGoneError
from pratique.testkit.host import remains
from pratique.testkit.host.owner import OwnedHost
from pratique.testkit.host.reuse import ReusedHost
from pratique.testkit.options import Options
from pratique.testkit.session import KitSession

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

OPTIONS = Options(back_ends={})


@pytest.fixture(autouse=True)
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_session_that_is_asked_for_nothing_makes_nothing() -> None:
    session = KitSession(OPTIONS, run="abcdef")
    session.close()
    assert not session.has_kit
    assert not session.was_host_asked
    assert vars(session).keys().isdisjoint({"host", "kit"})


def test_controller_owns_the_host_of_its_kit() -> None:
    session = KitSession(OPTIONS, run="abcdef")
    assert isinstance(session.host, OwnedHost)
    assert session.kit.host is session.host.client
    assert session.has_kit
    assert not session.was_host_asked
    assert session.kit.new_name().startswith("pqabcdef")
    session.close()


def test_reused_host_is_where_the_controller_says(tmp_path: Path) -> None:
    options = Options(back_ends={}, reuse_seconds=1.0)
    session = KitSession(options, run="a", worker="gw0", address=str(tmp_path / "here" / "host.sock"))
    assert isinstance(session.host, ReusedHost)
    assert session.kit.host.address == tmp_path / "here" / "host.sock"


def test_worker_ties_its_life_to_the_controller_when_it_first_asks_and_a_fork_of_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tied: list[int] = []
    monkeypatch.setattr(remains, "die_with_parent", tied.append)
    session = KitSession(OPTIONS, run="a", worker="gw0", address=str(tmp_path / "host.sock"))
    kit = session.kit
    assert session.host is None
    assert not session.was_host_asked
    assert tied == []
    with pytest.raises(HostGoneError):
        kit.host.status()
    assert tied == [os.getppid()]
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(HostGoneError):
        kit.host.status()
    assert len(tied) == 1
    session.close()


class ExitedError(Exception):
    """In the place of the end of this process."""


def test_worker_whose_controller_died_before_it_could_look_sweeps_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(code: int) -> None:
        raise ExitedError(code)

    monkeypatch.setattr(remains, "die_with_parent", lambda _: None)
    monkeypatch.setattr(os, "_exit", end)
    left = tmp_path / "pratique-testkit-run-left"
    left.mkdir(mode=0o700)
    (left / "owner.lock").touch()
    address = str(left / "host.sock")
    gone = KitSession(OPTIONS, run="a", worker="gw0", address=address, controller=2**22 + 1)
    with pytest.raises(ExitedError):
        gone.kit.host.status()
    assert not left.exists()


@pytest.mark.parametrize("controller", [os.getpid(), os.getppid()], ids=["another starter", "parent"])
def test_worker_whose_controller_lives_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controller: int
) -> None:
    tied: list[int] = []
    monkeypatch.setattr(remains, "die_with_parent", tied.append)
    session = KitSession(OPTIONS, run="a", worker="gw0", address=str(tmp_path / "host.sock"), controller=controller)
    with pytest.raises(HostGoneError):
        session.kit.host.status()
    assert tied == [os.getppid()]
