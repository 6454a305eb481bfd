"""What can be scripted, and what is refused where it is written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.choreography import (
    Event,
    dribbled,
    empty,
    exhausted,
    fail,
    garbage,
    hang,
    lognormal,
    ok,
    reset,
    sse,
    truncated,
    uniform,
)
from pratique.testkit.choreography.steps import Fault, Fixed, Lognormal, Uniform
from pratique.testkit.errors import TestkitUsageError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

REFUSED: dict[str, Callable[[], Any]] = {
    "a negative delay": lambda: fail(503, after=-1),
    "a delay that is no number": lambda: ok(after=math.nan),
    "a delay of True": lambda: ok(after=True),
    "a delay beyond any run": lambda: reset(after=301),
    "an endless hang": lambda: hang(limit=math.inf),
    "a hang of no time": lambda: hang(limit=0),
    "a status that is none": lambda: fail(99),
    "a failure that succeeds": lambda: fail(200),
    "a success that fails": lambda: ok(status=404),
    "a status of True": lambda: ok(status=True),
    "a status as text": lambda: fail("503"),  # type: ignore[arg-type]
    "two bodies": lambda: ok(json=1, text="1"),
    "a body where none may be": lambda: ok(status=204, text="x"),
    "what is no JSON": lambda: ok(json=object()),
    "not a number in JSON": lambda: ok(json=math.nan),
    "a header with a line break": lambda: ok(headers={"X": "a\r\nY: b"}),
    "a header's name with a space": lambda: ok(headers={"X Y": "a"}),
    "a header that is no text": lambda: ok(headers={"X": 1}),  # type: ignore[dict-item]
    "a length of one's own": lambda: ok(headers={"content-LENGTH": "1"}),
    "half a second to retry after": lambda: fail(503, retry_after=0.5),
    "a negative time to retry after": lambda: fail(503, retry_after=-1),
    "a cut after the end": lambda: truncated("body", after_bytes=4),
    "a cut before the beginning": lambda: truncated("body", after_bytes=-1),
    "a cut of nothing": lambda: truncated(b""),
    "a cut where no body may be": lambda: truncated(b"body", status=304),
    "more parts than bytes": lambda: dribbled("body", over=1, chunks=5),
    "no part": lambda: dribbled("body", over=1, chunks=0),
    "parts in negative time": lambda: dribbled("body", over=-1),
    "more events than there are": lambda: sse(["a"], broken_after=2),
    "fewer events than none": lambda: sse(["a"], broken_after=-1),
    "one text for the events": lambda: sse("data"),
    "an event's name of two lines": lambda: sse([Event(1, name="a\nb")]),
    "events paced beyond any run": lambda: sse(["a"] * 100, every=4),
    "a range that ends before it begins": lambda: uniform(2, 1),
    "a median of nothing": lambda: lognormal(0, 1),
    "a negative sigma": lambda: lognormal(1, -1),
    "a sigma of hours": lambda: lognormal(1, 3),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused(name: str) -> None:
    with pytest.raises(TestkitUsageError):
        REFUSED[name]()


def test_an_answer_says_what_its_body_is_unless_it_is_told() -> None:
    assert ok(json={"a": "é"}).headers == (("Content-Type", "application/json"),)
    assert ok(json={"a": "é"}).body == '{"a": "é"}'.encode()
    assert ok(text="é").body == "é".encode()
    assert ok(json=[], headers={"content-type": "application/x"}).headers == (("content-type", "application/x"),)
    assert ok(body=b"\x00").headers == ()
    assert ok(json=0).body == b"0"


def test_a_failure_may_say_when_to_try_again() -> None:
    assert ("Retry-After", "2") in fail(503, retry_after=2).headers
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    assert fail(429, retry_after=date, headers={"X": "y"}).headers == (("X", "y"), ("Retry-After", date))


def test_delays_are_fixed_or_drawn() -> None:
    assert fail(503, after=4.8).after == Fixed(4.8)
    assert ok(after=uniform(1, 2)).after == Uniform(1, 2)
    assert empty(after=lognormal(0.5, 0.1)).after == Lognormal(0.5, 0.1)


def test_connections_break_in_three_ways_and_a_hang_ends_in_one() -> None:
    assert [step.fault for step in (reset(), empty(), garbage())] == [Fault.RESET, Fault.EMPTY, Fault.GARBAGE]
    assert (hang().fault, hang().after) == (Fault.EMPTY, Fixed(60))


def test_a_truncated_body_misses_what_was_cut_off() -> None:
    half = truncated("12345")
    assert (half.body, half.missing_bytes) == (b"12", 3)
    none = truncated(b"12345", after_bytes=0)
    assert (none.body, none.missing_bytes) == (b"", 5)


def test_a_dribbled_body_is_whole() -> None:
    step = dribbled("12345", over=2, chunks=5)
    assert (step.body, step.chunks, step.over_seconds) == (b"12345", 5, 2.0)


def test_events_are_texts_values_or_have_names() -> None:
    step = sse(["two\nlines", {"a": 1}, Event("x", name="n", id="7")])
    assert step.body == b'data: two\ndata: lines\n\ndata: {"a": 1}\n\nevent: n\nid: 7\ndata: x\n\n'
    assert (step.chunks, step.missing_bytes, step.is_stream) == (0, 0, True)
    assert sse([]).body == b""


def test_a_broken_stream_has_exactly_so_many_events() -> None:
    step = sse(["1", "2", "3"], broken_after=2)
    assert step.body == b"data: 1\n\ndata: 2\n\n"
    assert step.missing_bytes > 0
    assert sse(["1"], broken_after=0, every=1).body == b":\n"
    assert sse(["1"], broken_after=0, every=1).chunks == 0


def test_paced_events_are_equally_long() -> None:
    step = sse(["1", "22", "333"], every=0.5)
    assert (step.chunks, step.over_seconds, len(step.body) % 3) == (3, 1.5, 0)
    size = len(step.body) // 3
    parts = [step.body[at : at + size] for at in range(0, len(step.body), size)]
    assert [part.partition(b"\n")[2] for part in parts] == [b"data: 1\n\n", b"data: 22\n\n", b"data: 333\n\n"]
    assert all(part.startswith(b":") for part in parts)


def test_an_exhausted_script_answers_so() -> None:
    assert (exhausted().status, exhausted().is_exhausted) == (500, True)
    assert b"script exhausted" in exhausted().body
