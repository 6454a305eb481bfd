"""What the guardian remembers and chooses, on lines and entries."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from pratique.core import procfs
from pratique.fleet.processes import guardian

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.unit


def entry(pid: int, session: int = 1, state: str = "S") -> procfs.ProcessEntry:
    return procfs.ProcessEntry(pid=pid, parent=1, session=session, state=state)


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
    monkeypatch.setattr(guardian, "has_marker", lambda pid, value: pid == 9 and value == "run")
    entries = [entry(5, session=5), entry(6, session=5), entry(7, session=7), entry(9, session=9)]
    assert guardian.choose_left_behind(entries, {5}, "run") == {5, 6, 9}
    assert guardian.choose_left_behind([entry(5, session=5, state="Z")], {5}, "run") == set()


@pytest.mark.parametrize(("said", "code"), [("done\n", 0), ("session 4194999\n", 0)])
def test_guardian_ends_well_where_nothing_is_left(monkeypatch: pytest.MonkeyPatch, said: str, code: int) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert guardian.main("no-such-run") == code
