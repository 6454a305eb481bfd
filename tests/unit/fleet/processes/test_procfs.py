"""Choosing processes."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from pratique.fleet.processes import guardian, procfs

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.unit


def entry(pid: int, parent: int = 1, session: int = 1, state: str = "S") -> procfs.ProcessEntry:
    return procfs.ProcessEntry(pid=pid, parent=parent, session=session, state=state)


def test_this_process_is_seen_with_its_parent_and_session() -> None:
    me = procfs.read_process(os.getpid())
    assert me is not None
    assert (me.parent, me.session, me.is_zombie) == (os.getppid(), os.getsid(0), False)
    assert me in [found._replace(state=me.state) for found in procfs.list_processes()]
    assert procfs.is_alive(os.getpid())


def test_process_that_is_gone_is_not_there() -> None:
    assert procfs.read_process(2**22 + 1) is None
    assert not procfs.is_alive(2**22 + 1)
    assert not procfs.has_marker(2**22 + 1, "x")


def test_descendants_are_found_at_any_depth() -> None:
    tree = [entry(2, 1), entry(3, 2), entry(4, 3), entry(5, 1), entry(6, 4)]
    assert procfs.descendants(tree, 2) == {3, 4, 6}
    assert procfs.descendants(tree, 6) == set()


def test_nothing_chosen_is_done_at_once() -> None:
    assert procfs.kill_until_gone(lambda entries: set()) == set()
    assert procfs.kill_until_gone(lambda entries: {os.getpid()}) == set()


def test_what_does_not_end_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "list_processes", lambda: [entry(7)])
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    assert procfs.kill_until_gone(lambda entries: {7}, within_seconds=0.02) == {7}
    assert killed


@pytest.mark.parametrize(
    ("lines", "sessions"),
    [
        (["session 5\n", "session 6\n", "forget 5\n"], {6}),
        (["session 5\n", "done\n"], None),
        (["session x\n", "forget y\n", "hello\n", "\n"], set()),
        ([], set()),
    ],
)
def test_guardian_remembers_what_to_end(lines: Iterable[str], sessions: set[int] | None) -> None:
    assert guardian.watch(lines) == sessions


def test_guardian_chooses_by_session_and_by_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "has_marker", lambda pid, value: pid == 9 and value == "run")
    entries = [entry(5, session=5), entry(6, session=5), entry(7, session=7), entry(9, session=9)]
    assert guardian.choose_left_behind(entries, {5}, "run") == {5, 6, 9}
    assert guardian.choose_left_behind([entry(5, session=5, state="Z")], {5}, "run") == set()


@pytest.mark.parametrize(("said", "code"), [("done\n", 0), ("session 4194999\n", 0)])
def test_guardian_ends_well_where_nothing_is_left(monkeypatch: pytest.MonkeyPatch, said: str, code: int) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert guardian.main("no-such-run") == code
