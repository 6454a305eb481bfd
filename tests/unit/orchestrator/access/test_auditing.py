"""The audit log: what is kept, what is dropped and said so, files that rotate away."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
from typing import TYPE_CHECKING

import pytest
import structlog

from pratique.core.catalogue.access import AUDIT_DROPPED
from pratique.core.clock import ManualClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.access.audit import AuditEvent, NoAudit
from pratique.orchestrator.access.auditing import AuditUnavailableError, FileSink, LogSink, QueuedAudit, append_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.unit


def event(subject: str = "conv_1", *, outcome: str = "ok") -> AuditEvent:
    return AuditEvent(action="conversation.delete", outcome=outcome, principal_id="usr_1", subject=subject)


def lines(path: Path) -> list[str]:
    return [json.loads(line)["subject"] for line in path.read_text().splitlines()]


class _Stuck:
    """A sink that is stuck until it is let go, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.free = threading.Event()
        self.written: list[AuditEvent] = []

    def write(self, records: Sequence[tuple[float, AuditEvent]]) -> None:
        if records and self.error is not None:
            raise self.error
        if records:
            self.free.wait(5)
        self.written += [event for _, event in records]

    def close(self) -> None:
        return


def dropped(metrics: Metrics, reason: str) -> float:
    found: float = metrics.counter(AUDIT_DROPPED).labels(reason=reason)._value.get()
    return found


async def test_records_are_lines_with_their_time_for_the_owner_only(tmp_path: Path) -> None:
    path, clock = tmp_path / "state" / "audit.jsonl", ManualClock()
    audit = QueuedAudit(FileSink(path, fsync=True), max_queue=10, metrics=Metrics(), clock=clock)
    audit.start()
    audit.record(event())
    await audit.aclose()
    [line] = path.read_text().splitlines()
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.000+00:00",
        "action": "conversation.delete",
        "outcome": "ok",
        "principal_id": "usr_1",
        "subject": "conv_1",
        "detail": "",
        "remote": "",
        "request_id": "",
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_file_that_was_renamed_is_begun_anew(tmp_path: Path) -> None:
    path, sink = tmp_path / "audit.jsonl", FileSink(tmp_path / "audit.jsonl")
    sink.write([(0.0, event("one"))])
    path.rename(tmp_path / "audit.1")
    sink.write([(0.0, event("two"))])
    path.unlink()
    sink.write([(0.0, event("three"))])
    sink.close()
    sink.close()
    assert (lines(tmp_path / "audit.1"), lines(path)) == (["one"], ["three"])


async def test_what_does_not_fit_is_counted_and_hinders_nobody() -> None:
    sink, metrics = _Stuck(), Metrics()
    audit = QueuedAudit(sink, max_queue=2, metrics=metrics)
    audit.start()
    with structlog.testing.capture_logs() as logs:
        audit.record(event())
        await asyncio.sleep(0.05)
        for _ in range(5):
            audit.record(event())
    assert dropped(metrics, "full") == 3
    assert [log["event"] for log in logs] == ["audit_records_dropped"]
    sink.free.set()
    await audit.aclose()
    # The gap is told once, beside what was kept.
    assert [(one.action, one.detail) for one in sink.written] == [("conversation.delete", "")] * 3 + [
        ("audit.dropped", "3 records")
    ]


async def test_a_flood_of_refusals_leaves_room_for_what_was_done() -> None:
    sink, metrics = _Stuck(), Metrics()
    audit = QueuedAudit(sink, max_queue=10, metrics=metrics)
    audit.start()
    audit.record(event("first"))
    await asyncio.sleep(0.05)
    for _ in range(1000):
        audit.record(event("flood", outcome="refused"))
    for number in range(5):
        audit.record(event(f"done-{number}"))
    sink.free.set()
    await audit.aclose()
    assert dropped(metrics, "full") == 995
    subjects = [one.subject for one in sink.written]
    assert subjects == ["first", *["flood"] * 5, *(f"done-{number}" for number in range(5)), ""]
    assert sink.written[-1].detail == "995 records"


@pytest.mark.parametrize("error", [OSError("no space"), ValueError("no such text"), RuntimeError("bug")])
async def test_what_cannot_be_written_is_counted_said_and_told_once_something_can(error: Exception) -> None:
    metrics, sink = Metrics(), _Stuck(error)
    audit = QueuedAudit(sink, max_queue=2, metrics=metrics)
    audit.start()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            audit.record(event("lost"))
            await asyncio.sleep(0.05)
    assert [log["event"] for log in logs] == ["audit_records_dropped"]
    assert str(error) in logs[0]["error"]
    sink.error = None
    sink.free.set()
    audit.record(event("kept"))
    await audit.aclose()
    assert dropped(metrics, "failed") == 2
    assert [(one.action, one.subject, one.detail) for one in sink.written] == [
        ("conversation.delete", "kept", ""),
        ("audit.dropped", "", "2 records"),
    ]


async def test_a_sink_that_is_stuck_does_not_hold_the_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.access.auditing._LAST_SECONDS", 0.05)
    sink, metrics = _Stuck(), Metrics()
    audit = QueuedAudit(sink, max_queue=5, metrics=metrics)
    audit.start()
    audit.record(event())
    await asyncio.sleep(0.02)
    audit.record(event())
    async with asyncio.timeout(2):
        await audit.aclose()
    assert dropped(metrics, "failed") == 1
    sink.free.set()


async def test_a_place_that_cannot_be_written_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "audit.jsonl"
    with pytest.raises(AuditUnavailableError):
        QueuedAudit(FileSink(path), max_queue=1, metrics=Metrics()).start()
    with pytest.raises(AuditUnavailableError):
        append_record(path, event())


async def test_in_the_log_a_record_is_an_event_without_what_is_empty() -> None:
    with structlog.testing.capture_logs() as logs:
        LogSink().write([(0.0, event())])
        LogSink().close()
    [log] = logs
    assert log["event"] == "audit"
    assert log["action"] == "conversation.delete"
    assert "detail" not in log


async def test_without_a_log_nothing_is_kept() -> None:
    NoAudit().record(event())
    await NoAudit().aclose()
    audit = QueuedAudit(LogSink(), max_queue=1, metrics=(metrics := Metrics()))
    audit.record(event())
    await audit.aclose()
    assert dropped(metrics, "failed") == 1
