"""Clients that hold a place among the requests in flight: bodies that do not end, answers that nobody reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from starlette.types import Message, Scope

from pratique.inference.api import http, invocations
from pratique.inference.containment.breaker import BreakerState
from pratique.inference.errors import BodyTimeoutError, DeathCause
from pratique.inference.settings import ContainmentSettings

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Launch, Running

pytestmark = pytest.mark.unit


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def _scope(path: str, **headers: str) -> Scope:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": pairs}


async def test_a_body_that_does_not_end_is_given_up() -> None:
    with pytest.raises(BodyTimeoutError, match="did not come within"):
        await http.read_body(_never, limit_bytes=10, within_seconds=0.01)


@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions"])
@pytest.mark.parametrize("models", [("simulated",), ("small", "large")])
async def test_its_client_is_told_and_its_place_is_free(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, path: str, models: tuple[str, ...]
) -> None:
    monkeypatch.setattr(http.read_body, "__kwdefaults__", {"within_seconds": 0.01})
    running = launch(models=models)
    await running.until("traffic_ready")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await running.server.gate(_scope(path), _never, send)
    assert sent[0]["status"] == 408
    assert b"body_timeout" in sent[1]["body"]
    assert running.server.gate.num_in_flight == 0


async def _open_half(running: Running) -> None:
    await running.until("traffic_ready")
    running.slot.breaker.trip(DeathCause.OUT_OF_MEMORY)
    await running.wait_for(lambda: running.slot.breaker.state is BreakerState.HALF_OPEN)


async def test_a_test_request_that_nobody_reads_is_settled_after_its_deadline(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invocations, "_LATE_SECONDS", 0.01)
    running = launch(containment=ContainmentSettings(cooldown_seconds=0.01))
    await _open_half(running)
    bodies: list[Message] = [
        {"type": "http.request", "body": b'{"query":"q","stream":true,"max_tokens":1500}', "more_body": False}
    ]

    async def receive() -> Message:
        return bodies.pop() if bodies else await _never()

    async def send(_message: Message) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        await running.server.gate(_scope("/invocations", x_pratique_timeout_seconds="0.05"), receive, send)
    assert not running.slot.breaker.is_testing
    assert running.server.gate.num_in_flight == 0


async def test_a_large_body_is_understood_like_a_small_one(launch: Launch) -> None:
    running = launch()
    await running.until("traffic_ready")
    turns = [{"role": role, "content": "word " * 400} for _ in range(40) for role in ("user", "assistant")]
    answer = await running.call("POST", "/invocations", {"query": "q", "history": turns, "max_tokens": 3})
    assert (answer.status, answer.json()["was_truncated"]) == (200, True)
    refused = await running.call("POST", "/invocations", {"query": "q", "history": turns, "max_tokens": 0})
    assert (refused.status, refused.json()["error"]["code"]) == (400, "invalid_request")
