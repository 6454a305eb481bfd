"""The historic bug over real HTTP, at a tenth of its times: an upstream that answers 503 after 0.48 s, an SLA of 1 s.

The control is the client of back then: three tries, and no other bound.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from pratique.orchestrator.app import Parts, running
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.server import bind, listening
from pratique.orchestrator.settings import OrchestratorSettings
from pratique.orchestrator.upstream.settings import DownstreamSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration

REFUSAL_SECONDS = 0.48
SLA_SECONDS = 1.0
SLACK = 1.25
"""For a machine that is busy; the naive client is beyond it by far."""


class SlowRefuser:
    """Answers every request with 503, slowly."""

    def __init__(self) -> None:
        self.url = ""
        self.num_asked = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SlowRefuser]:
        application = web.Application()
        application.router.add_post("/invocations", self._refuse)
        runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = "http://{}:{}".format(*runner.addresses[0][:2])
            yield self
        finally:
            await runner.cleanup()

    async def _refuse(self, _: web.Request) -> web.Response:
        self.num_asked += 1
        await asyncio.sleep(REFUSAL_SECONDS)
        return web.json_response({"error": {"code": "overloaded", "message": "later"}}, status=503)


async def naive_client(http: aiohttp.ClientSession, url: str, *, tries: int = 3) -> int:
    """Ask up to so often; return the last status."""
    status = 0
    for _ in range(tries):
        async with http.post(f"{url}/invocations", json={"query": "hello"}) as response:
            status = response.status
        if status < 500:
            break
    return status


async def test_slow_refusals_end_in_a_clear_error_within_the_sla() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(SlowRefuser().running())
        settings = OrchestratorSettings(
            inference_url=server.url,
            first_token_timeout_seconds=0.6,
            drain_notice_seconds=0.0,
            downstream=DownstreamSettings(answer_deadline_seconds=SLA_SECONDS, quick_refusal_seconds=0.2),
        )
        parts = Parts(store=MemoryConversationStore())
        replica = await stack.enter_async_context(running(settings, parts))
        listener = stack.enter_context(bind("127.0.0.1", 0))
        url = await stack.enter_async_context(listening(replica.application, listener))
        jar = aiohttp.CookieJar(unsafe=True)
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        async with http.get(f"{url}/api/session") as response:
            assert response.status == 200

        began = time.monotonic()
        message = {"client_message_id": "message-0001", "text": "hello"}
        async with http.post(f"{url}/api/chat", json=message) as response:
            answer = await response.json()
        ours = time.monotonic() - began
        num_ours, server.num_asked = server.num_asked, 0

        began = time.monotonic()
        assert await naive_client(http, server.url) == 503
        naive = time.monotonic() - began

    # The pauses between attempts are not scaled: the second one may be cut by the deadline just before its refusal.
    assert answer["error"]["code"] in {"model_unavailable", "first_token_timeout"}
    assert (num_ours, server.num_asked) == (2, 3)
    assert ours < SLACK * SLA_SECONDS < naive
