"""The SSE transport: one reply's events as an HTTP response, never buffered, ended by the reply's end.

`event:` is the event's type, `data:` its JSON, `id:` the cursor of a numbered one, which browsers send back as
Last-Event-ID.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.errors import PratiqueError
from pratique.orchestrator.api.stream import CloseConnectionError, EventStream, Outgoing
from pratique.orchestrator.protocol.errors import event_error_of
from pratique.orchestrator.protocol.events import ErrorEvent
from pratique.orchestrator.sessions.feed import FeedLostError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from pratique.core.ids import ConversationId, GenerationId
    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.api.runtime import Runtime
    from pratique.orchestrator.protocol.events import ServerEvent
    from pratique.orchestrator.sessions.feed import Feed

__all__ = ["SseReply", "SseResponse"]

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, kw_only=True)
class SseReply:
    """What one response sends: `first`, then the feed's events after `after_seq`."""

    principal: Principal
    conversation_id: ConversationId
    generation_id: GenerationId | None
    first: ServerEvent
    feed: Feed | None
    after_seq: int = 0
    has_model_state: bool = False
    needs_snapshot: bool = False
    """Without a feed: whether the conversation as stored is to follow (`first` was not it)."""


class SseResponse:
    """An ASGI response that streams one reply. It does not count itself among the connections."""

    def __init__(self, runtime: Runtime, reply: SseReply) -> None:
        self._runtime = runtime
        self._reply = reply

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        open_now = self._runtime.instruments.connections.labels(transport="sse")
        open_now.inc()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            if await self._stream(receive, send):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            # The client left while something was being sent to it.
            return
        finally:
            open_now.dec()

    async def _stream(self, receive: Receive, send: Send) -> bool:
        """Send everything; return whether the response can be ended properly."""

        async def write(batch: Sequence[Outgoing]) -> None:
            await send(
                {"type": "http.response.body", "body": b"".join(_format(item) for item in batch), "more_body": True}
            )

        stream = EventStream(self._runtime, write, principal=self._reply.principal, transport="sse")
        is_whole = True
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(work) for work in (stream.send_all(), _watch_client(receive))]
                stream.say(self._reply.first)
                with stream.attending(has_model_state=self._reply.has_model_state):
                    await self._say(stream)
                    await stream.flush()
                for task in background:
                    task.cancel()
        except* CloseConnectionError as group:
            is_whole = _is_drain(group)
        except* OSError:
            is_whole = False
        return is_whole

    async def _say(self, stream: EventStream) -> None:
        reply = self._reply
        if reply.generation_id is None or (reply.feed is None and not reply.needs_snapshot):
            return
        if reply.feed is not None:
            try:
                await stream.follow(reply.generation_id, reply.feed, reply.after_seq)
            except FeedLostError:
                pass
            else:
                return
        try:
            event: ServerEvent = await self._runtime.service.snapshot(
                reply.principal.principal_id, reply.conversation_id, reply.generation_id
            )
        except PratiqueError as error:
            event = ErrorEvent(error=event_error_of(error), generation_id=reply.generation_id)
        stream.say(event)


async def _watch_client(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise CloseConnectionError(1000, "left")


def _format(item: Outgoing) -> bytes:
    # The JSON of every event begins with its type: {"type":"token",…
    kind = item.data.split(b'"', 4)[3]
    cursor = b"id: " + item.cursor.encode() + b"\n" if item.cursor else b""
    return cursor + b"event: " + kind + b"\ndata: " + item.data + b"\n\n"


def _is_drain(group: BaseExceptionGroup[CloseConnectionError]) -> bool:
    return any(
        _is_drain(error) if isinstance(error, BaseExceptionGroup) else error.message == "draining"
        for error in group.exceptions
    )
