"""Choosing processes."""

from __future__ import annotations

import os

import pytest

from pratique.core import procfs
from pratique.fleet.processes.marker import has_marker

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
    assert not has_marker(2**22 + 1, "x")


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
