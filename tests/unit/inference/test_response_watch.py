"""How answers end, in the eyes of the breaker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pratique.inference.api.response_watch import ResponseWatch
from pratique.inference.api.target import Outcome

pytestmark = pytest.mark.unit

DONE = b"data: [DONE]\n\n"


class Watched:
    """A watch, and what came out of it."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.sent: list[Any] = []
        self._breaks = breaks
        self._requests: Iterator[Any] = iter([{"type": "http.request", "body": b"more"}])
        self.watch = ResponseWatch(self._receive, self._send, body=b"body", headers={"x-new": "1"})

    async def _receive(self) -> Any:
        return next(self._requests, {"type": "http.disconnect"})

    async def _send(self, message: Any) -> None:
        if self._breaks:
            raise ConnectionResetError
        self.sent.append(message)

    async def answer(self, *chunks: bytes, status: int = 200) -> Outcome:
        await self.watch.send({"type": "http.response.start", "status": status, "headers": [(b"x-own", b"1")]})
        for chunk in chunks:
            await self.watch.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self.watch.send({"type": "http.response.body"})
        return self.watch.outcome()


async def test_the_body_is_given_once_and_then_what_the_server_says() -> None:
    receive = Watched().watch.receive
    said = [await receive() for _ in range(3)]
    assert said[0] == {"type": "http.request", "body": b"body", "more_body": False}
    assert [message["type"] for message in said] == ["http.request", "http.request", "http.disconnect"]


async def test_what_is_sent_passes_with_the_headers_beside_its_own() -> None:
    watched = Watched()
    await watched.answer(b"a", b"b")
    assert watched.sent[0]["headers"] == [(b"x-own", b"1"), (b"x-new", b"1")]
    assert [message.get("body") for message in watched.sent[1:]] == [b"a", b"b", None]


@pytest.mark.parametrize(
    ("chunks", "status", "outcome"),
    [
        ([b"{}"], 200, Outcome.SUCCEEDED),
        ([b"data: 1\n\n", DONE], 200, Outcome.SUCCEEDED),
        ([b'data: {"text":"data: {\\"error\\""}\n\n', DONE], 200, Outcome.SUCCEEDED),
        ([b"{}"], 400, Outcome.ABANDONED),
        ([b"{}"], 302, Outcome.ABANDONED),
        # The application itself failed with this one request; what the end of an engine did comes as 503.
        ([b"{}"], 500, Outcome.ABANDONED),
        ([b"{}"], 503, Outcome.FAILED),
        ([b"data: 1\n\n", b'data: {"error":{"code":500}}\n\n', DONE], 200, Outcome.FAILED),
    ],
)
async def test_the_status_and_the_events_say_how_it_ended(chunks: list[bytes], status: int, outcome: Outcome) -> None:
    assert await Watched().answer(*chunks, status=status) is outcome


@pytest.mark.parametrize("num_bytes", range(1, 16))
async def test_an_error_event_is_seen_wherever_it_is_cut(num_bytes: int) -> None:
    raw = b'data: {"a":1}\n\ndata: {"error":{}}\n\n'
    chunks = [raw[place : place + num_bytes] for place in range(0, len(raw), num_bytes)]
    assert await Watched().answer(*chunks) is Outcome.FAILED


async def test_an_answer_that_is_not_complete_has_failed() -> None:
    watch = Watched().watch
    assert watch.outcome() is Outcome.FAILED
    await watch.send({"type": "http.response.start", "status": 200})
    await watch.send({"type": "http.response.body", "body": b"a", "more_body": True})
    assert watch.outcome() is Outcome.FAILED


async def test_a_client_that_left_says_nothing_about_the_engine() -> None:
    watched = Watched()
    for _ in range(3):
        await watched.watch.receive()
    assert watched.watch.outcome() is Outcome.ABANDONED
    # vLLM answers `null` with 200 to a client that is gone.
    assert await watched.answer(b"null") is Outcome.ABANDONED


async def test_an_error_before_the_client_left_is_one() -> None:
    watched = Watched()
    await watched.watch.send({"type": "http.response.start", "status": 200})
    await watched.watch.send({"type": "http.response.body", "body": b'data: {"error":{}}', "more_body": True})
    watched.watch.leave()
    assert watched.watch.outcome() is Outcome.FAILED


async def test_a_client_that_leaves_after_the_answer_got_it() -> None:
    watched = Watched()
    await watched.answer(b"{}")
    for _ in range(3):
        await watched.watch.receive()
    assert watched.watch.outcome() is Outcome.SUCCEEDED


async def test_a_connection_that_broke_is_a_client_that_left() -> None:
    watched = Watched(breaks=True)
    with pytest.raises(ConnectionResetError):
        await watched.answer(b"{}")
    assert watched.watch.outcome() is Outcome.ABANDONED
