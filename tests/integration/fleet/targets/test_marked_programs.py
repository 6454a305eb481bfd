"""Programs that are found by a mark in their environment."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pratique.fleet.targets._marked import MarkedPrograms

pytestmark = pytest.mark.integration

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who was asked for a mark; the first three times there is none yet, as on a busy machine."""
    pids: list[int] = []
    role_of = MarkedPrograms._role

    def late(programs: MarkedPrograms, pid: int) -> str | None:
        pids.append(pid)
        return role_of(programs, pid) if len(pids) > 3 else None

    monkeypatch.setattr(MarkedPrograms, "_role", late)
    return pids


def test_what_was_started_is_found_even_where_its_mark_comes_late(tmp_path: Path, asked: list[int]) -> None:
    programs = MarkedPrograms(str(tmp_path))
    programs.start("a", ["sleep", "60"], ENVIRONMENT, tmp_path / "a.log")
    try:
        assert len(asked) == 4
        assert set(programs.running()) == {"a"}
    finally:
        programs.stop("a", grace_seconds=5.0)
    assert programs.running() == {}


def test_what_ended_at_once_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    MarkedPrograms(str(tmp_path)).start("a", ["true"], ENVIRONMENT, tmp_path / "a.log")
    assert time.monotonic() - began < 3.0
