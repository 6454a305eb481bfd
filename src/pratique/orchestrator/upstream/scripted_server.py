"""A model server out of a script, over real HTTP: plays a `ScriptedUpstream` behind `/invocations`.

For tests of everything that goes over a socket. An UpstreamInterruptedError in a script cuts the connection, as a
server does that is killed; an UpstreamRefusedError after the start is an error event; before it, errors are statuses.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from pratique.core.ids import ConversationId
from pratique.orchestrator.upstream.interface import (
    HistoryTurn,
    UpstreamEnd,
    UpstreamEvent,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamStream,
    UpstreamUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.orchestrator.upstream.scripted import ScriptedUpstream

__all__ = ["ScriptedModelServer"]


class ScriptedModelServer:
    """Serves on a free loopback port within `running`."""

    def __init__(self, upstream: ScriptedUpstream, *, name: str = "scripted-0") -> None:
        self.upstream = upstream
        self.name = name
        self.state = "traffic_ready"
        self.url = ""
        self.num_open = 0
        """Requests that are being answered now."""
        self.headers_seen: list[dict[str, str]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedModelServer]:
        """Listen for as long as the body runs; `url` says where."""
        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_post("/invocations", self._invocations)
        application.router.add_get("/status", self._status)
        application.router.add_get("/v1/models", self._models)
        application.router.add_post("/v1/chat/completions", self._completions)
        runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            yield self
        finally:
            await runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({"schema_version": 1, "name": self.name, "state": self.state, "detail": "scripted"})

    async def _invocations(self, request: web.Request) -> web.StreamResponse:
        self.headers_seen.append({name.lower(): value for name, value in request.headers.items()})
        if self.state != "traffic_ready":
            return _refusal(503, "not_ready", f"The server is {self.state}.")
        asked = _request_of(msgspec.json.decode(await request.read()))
        stream = self.upstream.open(asked)
        try:
            await stream.__aenter__()
        except UpstreamUnavailableError as error:
            return _refusal(503, "not_ready", error.message)
        except UpstreamRefusedError as error:
            return _refusal(400, error.refused_code, error.message, error.hint)
        except UpstreamInterruptedError as error:
            return _refusal(500, "engine_error", error.message)
        self.num_open += 1
        try:
            return await self._stream(request, stream)
        finally:
            self.num_open -= 1
            await stream.__aexit__(None, None, None)

    async def _stream(self, request: web.Request, stream: UpstreamStream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
        await response.prepare(request)
        await response.write(b": keep-alive\n\n")
        try:
            async for event in stream:
                await response.write(_sse(event))
        except UpstreamRefusedError as error:
            said = {"code": error.refused_code, "message": error.message, "retryable": False}
            await response.write(b"event: error\ndata: " + msgspec.json.encode(said) + b"\n\n")
        except UpstreamInterruptedError:
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        self.headers_seen.append({name.lower(): value for name, value in request.headers.items()})
        asked: dict[str, Any] = msgspec.json.decode(await request.read())
        if asked.get("model") != "scripted":
            error = {"message": "The model does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
            return web.json_response({"error": error}, status=404)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        self.num_open += 1
        try:
            for number in range(int(asked.get("max_tokens", 5))):
                piece = {"choices": [{"index": 0, "delta": {"content": f"word-{number} "}, "finish_reason": None}]}
                await response.write(b"data: " + msgspec.json.encode(piece) + b"\n\n")
                await asyncio.sleep(0.02)
            await response.write(b"data: [DONE]\n\n")
        finally:
            self.num_open -= 1
        return response


def _request_of(body: dict[str, Any]) -> UpstreamRequest:
    return UpstreamRequest(
        request_id=body["request_id"],
        conversation_id=ConversationId(body["conversation_id"]),
        query=body["query"],
        system_prompt=body["system_prompt"],
        history=tuple(HistoryTurn(turn["role"], turn["content"]) for turn in body["history"]),
        prefix=body["prefix"],
        max_tokens=body["max_tokens"],
        temperature=body["temperature"],
    )


def _refusal(status: int, code: str, message: str, hint: str | None = None) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message, "hint": hint}}, status=status)


def _sse(event: UpstreamEvent) -> bytes:
    if isinstance(event, UpstreamStart):
        kind = "start"
        data: dict[str, Any] = {
            "request_id": "-",
            "model": event.model,
            "prompt_tokens": event.prompt_tokens,
            "was_truncated": event.was_truncated,
            "turns_dropped": event.turns_dropped,
        }
    elif isinstance(event, UpstreamEnd):
        kind = "end"
        data = {
            "finish_reason": event.finish_reason,
            "prompt_tokens": event.prompt_tokens,
            "completion_tokens": event.completion_tokens,
        }
    else:
        kind, data = "token", {"text": event.text}
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
