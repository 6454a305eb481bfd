"""What a target measures is what the edge's access log says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pratique.fleet.targets import _accesslog
from pratique.fleet.targets._accesslog import read_tail, samples_of

pytestmark = pytest.mark.unit

SINCE = datetime(2026, 11, 26, 2, 0, tzinfo=UTC)


def line(**members: object) -> bytes:
    whole = {
        "event": "request",
        "timestamp": "2026-11-26T02:00:01.500Z",
        "status": 200,
        "pool": "a",
        "milliseconds": 120,
        "milliseconds_to_first_byte": 40,
    }
    return msgspec.json.encode(whole | members)


def test_a_request_is_a_sample_of_every_metric() -> None:
    assert samples_of([line()], "a", since=SINCE) == {
        "error": [0.0],
        "client_error": [0.0],
        "latency_seconds": [0.12],
        "first_token_seconds": [0.04],
    }


@pytest.mark.parametrize("status", [500, 503, 599, 0])
def test_what_was_not_answered_is_an_error_and_has_no_latency(status: int) -> None:
    found = samples_of([line(status=status)], "a", since=SINCE)
    assert (found["error"], found["latency_seconds"], found["first_token_seconds"]) == ([1.0], [], [])


@pytest.mark.parametrize("status", [400, 404, 499])
def test_a_refusal_is_the_clients_error_and_makes_nothing_quicker(status: int) -> None:
    found = samples_of([line(status=status)], "a", since=SINCE)
    assert (found["error"], found["client_error"], found["latency_seconds"]) == ([0.0], [1.0], [])


def test_a_redirect_is_an_answer() -> None:
    found = samples_of([line(status=301)], "a", since=SINCE)
    assert (found["error"], found["client_error"], found["latency_seconds"]) == ([0.0], [0.0], [0.12])


def test_a_websocket_counts_as_a_request_and_not_by_how_long_it_was_open() -> None:
    found = samples_of([line(status=101, milliseconds=3_600_000)], "a", since=SINCE)
    assert (found["error"], found["latency_seconds"]) == ([0.0], [])


def test_other_pools_and_earlier_requests_do_not_count() -> None:
    lines = [line(pool="b"), line(pool=None), line(timestamp="2026-11-26T01:59:59.999Z")]
    assert samples_of(lines, "a", since=SINCE)["error"] == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"event":"request"}', b"warning: something"])
def test_a_line_that_is_none_is_passed_over(text: bytes) -> None:
    assert samples_of([text, line()], "a", since=SINCE)["error"] == [0.0]


def test_an_answer_without_a_first_byte_has_none() -> None:
    found = samples_of([line(milliseconds_to_first_byte=None)], "a", since=SINCE)
    assert (found["latency_seconds"], found["first_token_seconds"]) == ([0.12], [])


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "none") == []


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntwo\nthr")
    assert read_tail(tmp_path / "log") == [b"one", b"two"]


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_accesslog, "MAX_BYTES", 9)
    (tmp_path / "log").write_bytes(b"one\ntwo\nthree\n")
    assert read_tail(tmp_path / "log") == [b"three"]
