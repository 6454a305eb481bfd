"""Reading log files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pratique.fleet.stack.logs import LogLine, follow, last_lines, render_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.unit


def line(second: int, event: str) -> str:
    return json.dumps({"timestamp": f"2026-01-01T00:00:{second:02d}.000+00:00", "event": event}) + "\n"


def test_last_lines_of_several_files_in_the_order_of_their_time(tmp_path: Path) -> None:
    (tmp_path / "a.log.1").write_text(line(1, "oldest"))
    (tmp_path / "a.log").write_text(line(2, "first") + line(5, "last"))
    (tmp_path / "b.log").write_text(line(3, "second") + "no json\n[1]\n")
    files = [tmp_path / "a.log", tmp_path / "b.log", tmp_path / "c.log"]
    found = last_lines(files, 50)
    assert [entry.service for entry in found] == ["a", "a", "b", "b", "b", "a"]
    assert [entry.text for entry in found][3:5] == ["no json", "[1]"], (
        "a line without a time stays behind its neighbour"
    )
    assert [json.loads(entry.text)["event"] for entry in last_lines(files[:1], 2)] == ["first", "last"]
    assert last_lines(files, 0) == []


def test_line_for_people() -> None:
    shown = render_line(LogLine(service="edge", timestamp="2026-01-01T10:20:30.123+00:00", text=line(0, "ready")))
    assert shown == "10:20:30.123 edge            ready"


def test_follow_goes_on_through_a_rotation_and_finds_files_that_come_later(tmp_path: Path) -> None:
    here, late = tmp_path / "a.log", tmp_path / "b.log"
    here.write_text(line(1, "before"))

    def append() -> None:
        with here.open("a") as file:
            file.write(line(2, "appended"))

    def rotate() -> None:
        here.rename(tmp_path / "a.log.1")
        here.write_text(line(3, "rotated"))

    def appear() -> None:
        late.write_text(line(4, "late"))

    steps: list[Callable[[], None]] = [append, rotate, appear, lambda: None]

    def sleep(seconds: float) -> None:
        steps.pop(0)()

    lines = follow([here, late], sleep=sleep)
    assert [json.loads(next(lines).text)["event"] for _ in range(3)] == ["appended", "rotated", "late"]
    lines.close()
