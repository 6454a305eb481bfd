"""Every upstream under the same scripts."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.ids import ConversationId
from pratique.orchestrator.upstream.http import HttpUpstream
from pratique.orchestrator.upstream.interface import Upstream, UpstreamRequest
from pratique.orchestrator.upstream.scripted import ScriptedUpstream, Step
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

Played = tuple[Upstream, ScriptedUpstream]


@pytest.fixture(params=["scripted", "http"])
def play(request: pytest.FixtureRequest) -> Callable[..., AbstractAsyncContextManager[Played]]:
    """Give an upstream that plays these scripts, and the script's own view of it."""

    @asynccontextmanager
    async def playing(*scripts: list[Step]) -> AsyncIterator[Played]:
        script = ScriptedUpstream(scripts)
        if request.param == "scripted":
            yield script, script
            return
        async with ScriptedModelServer(script).running() as server, aclosing(HttpUpstream(server.url)) as upstream:
            yield upstream, script

    return playing


@pytest.fixture
def ask() -> Callable[..., UpstreamRequest]:
    def make(query: str = "one two three", **fields: Any) -> UpstreamRequest:
        base = UpstreamRequest(request_id="req_1", conversation_id=ConversationId("conv_1"), query=query)
        return replace(base, **fields)

    return make
