"""Logs of services: JSON lines, rotation, a full disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pratique.core.clock import ManualClock
from pratique.fleet.processes.logs import LineBuffer, ServiceLog, plain_text

pytestmark = pytest.mark.unit


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_lines_are_cut_wherever_the_pieces_end() -> None:
    taken: list[bytes] = []
    buffer = LineBuffer(taken.append)
    for piece in (b"on", b"e\ntwo\nth", b"ree"):
        buffer.feed(piece)
    assert taken == [b"one", b"two"]
    buffer.close()
    buffer.close()
    assert taken == [b"one", b"two", b"three"]


def test_endless_line_is_bounded() -> None:
    taken: list[bytes] = []
    buffer = LineBuffer(taken.append)
    buffer.feed(b"x" * 200_000)
    assert [len(line) for line in taken] == [65_536] * 3
    assert len(buffer._rest) == 200_000 - 3 * 65_536


def test_plain_lines_are_wrapped_and_objects_kept(tmp_path: Path) -> None:
    log = ServiceLog(tmp_path / "logs" / "a.log", "a", clock=ManualClock(epoch_seconds=0))
    for line in (b'{"event": "ready", "level": "info"}', b"plain \xff\r", b"", b"{broken}", b"[1]"):
        log.write(line)
    log.note("was killed by SIGKILL")
    log.close()
    found = lines(tmp_path / "logs" / "a.log")
    assert found[0] == {"event": "ready", "level": "info"}
    assert found[1] == {"timestamp": "1970-01-01T00:00:00.000+00:00", "service": "a", "event": "plain �"}
    assert [line["event"] for line in found[2:]] == ["{broken}", "[1]", "was killed by SIGKILL"]
    assert log.tail == ("ready", "plain �", "{broken}", "[1]", "was killed by SIGKILL")
    assert log.last_line == "was killed by SIGKILL"


def test_nothing_said_is_no_line(tmp_path: Path) -> None:
    assert ServiceLog(tmp_path / "a.log", "a").last_line == ""


def test_rotation_keeps_a_bounded_number_of_bounded_files(tmp_path: Path) -> None:
    log = ServiceLog(tmp_path / "a.log", "a", max_bytes=200, backups=2)
    for number in range(20):
        log.write(json.dumps({"event": f"line {number}", "pad": "x" * 40}).encode())
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["a.log", "a.log.1", "a.log.2"]
    assert all((tmp_path / name).stat().st_size <= 200 for name in files)
    kept = [line["event"] for name in ("a.log.2", "a.log.1", "a.log") for line in lines(tmp_path / name)]
    assert kept == [f"line {number}" for number in range(20 - len(kept), 20)]


def test_full_disk_loses_lines_and_goes_on(tmp_path: Path) -> None:
    log = ServiceLog(Path("/dev/full"), "a")
    log.write(b"lost")
    assert (log.lost_lines, log.last_line) == (1, "lost")
    log._path = tmp_path / "a.log"
    log.write(b"kept")
    log.close()
    assert [line["event"] for line in lines(tmp_path / "a.log")] == ["kept"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("just text", "just text"),
        ('{"event":"ready","level":"info","service":"a","room":"b","timestamp":"t"}', "ready"),
        ('{"event":"slow","level":"warning","seconds":3,"detail":null}', "warning: slow seconds=3"),
        ('{"no":"event"}', '{"no":"event"}'),
        ("17", "17"),
    ],
)
def test_line_for_people(line: str, words: str) -> None:
    assert plain_text(line) == words
