"""The WebSocket transport: frames in, events out. A connection may follow several replies; losing it stops none."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, assert_never

from pratique.core.errors import EnvironmentFaultError, PratiqueError
from pratique.core.events import bound_contextvars, get_logger
from pratique.core.ids import ConversationId, GenerationId
from pratique.orchestrator.access.limits.interface import LimitExceededError
from pratique.orchestrator.access.limits.pace import FramePace
from pratique.orchestrator.api.admission import Admission
from pratique.orchestrator.api.stream import CloseConnectionError, EventStream, Outgoing
from pratique.orchestrator.protocol.errors import FrameError, event_error_of
from pratique.orchestrator.protocol.events import ErrorEvent, EventError, Hello, Pong
from pratique.orchestrator.protocol.frames import Cancel, ClientFrame, Message, Ping, Resume, Retry
from pratique.orchestrator.protocol.parse import parse_frame
from pratique.orchestrator.sessions.feed import FeedLostError
from pratique.orchestrator.sessions.sessions import OverloadedError
from pratique.orchestrator.sockets import TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from starlette.types import Receive, Scope, Send

    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.api.runtime import Runtime
    from pratique.orchestrator.api.service import Answer
    from pratique.orchestrator.sessions.feed import Feed

__all__ = ["WebSocketEndpoint"]

_logger = get_logger("api")
POLICY = 1008
TRY_AGAIN_LATER = 1013
TOO_MANY_BAD_FRAMES = 4400
_INTERNAL = 1011
_MAX_FOLLOWED = 32
_CLOSE_SECONDS = 5.0


class WebSocketEndpoint:
    """The ASGI application behind /api/ws."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._admission = Admission(runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. A refusal is a close code: browsers cannot see the status of a failed handshake."""
        await receive()
        await send({"type": "websocket.accept"})
        runtime = self._runtime
        try:
            principal = await self._admission.admit(scope)
        except PratiqueError as error:
            code = TRY_AGAIN_LATER if isinstance(error, EnvironmentFaultError | LimitExceededError) else POLICY
            await send({"type": "websocket.close", "code": code, "reason": error.code})
            return
        if principal is None:
            raise RuntimeError("The path of the WebSocket must not be public.")
        open_now = runtime.instruments.connections.labels(transport="websocket")
        open_now.inc()
        try:
            with bound_contextvars(principal_id=principal.principal_id), runtime.connected(principal):
                refused = functools.partial(self._admission.refused, scope, principal=principal)
                texts = scope.get("extensions", {}).get(TEXTS)
                await _Connection(runtime, principal, receive, send, refused=refused, texts=texts).run()
        except (LimitExceededError, OverloadedError) as error:
            self._admission.refused(scope, error, principal)
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": error.code})
        finally:
            open_now.dec()


class _Connection:
    def __init__(
        self,
        runtime: Runtime,
        principal: Principal,
        receive: Receive,
        send: Send,
        *,
        refused: Callable[[PratiqueError], None],
        texts: dict[str, Any] | None,
    ) -> None:
        self._runtime = runtime
        self._refused = refused
        self._pace = FramePace(runtime.settings.access.limits)
        self._principal = principal
        self._owner = principal.principal_id
        self._receive = receive
        self._send = send
        self._takes_texts = texts is not None
        self._stream = EventStream(
            runtime,
            self._write,
            principal=principal,
            transport="websocket",
            send_now=(texts or {}).get("send_now"),
        )
        self._followed: dict[str, asyncio.Task[None]] = {}
        self._num_tasks = 0
        self._num_bad_frames = 0

    async def run(self) -> None:
        """Serve until either side leaves."""
        closing = CloseConnectionError(_INTERNAL, "internal")
        try:
            self._stream.say(self._hello())
            async with asyncio.TaskGroup() as tasks:
                with self._stream.attending():
                    tasks.create_task(self._stream.send_all())
                    await self._receive_all(tasks)
        except* CloseConnectionError as group:
            closing = _first(group)
        except* OSError:
            # The client left while something was being sent to it.
            closing = CloseConnectionError(1000, "left")
        except* Exception:
            _logger.exception("connection_failed")
        await self._close(closing)

    def _hello(self) -> Hello:
        return Hello(
            replica=self._runtime.settings.replica,
            principal_id=self._owner,
            heartbeat_seconds=self._runtime.settings.heartbeat_seconds,
        )

    async def _write(self, batch: Sequence[Outgoing]) -> None:
        if self._takes_texts:
            await self._send({"type": "websocket.send", "texts": [item.data for item in batch]})
            return
        for item in batch:
            await self._send({"type": "websocket.send", "text": item.data.decode()})

    async def _close(self, closing: CloseConnectionError) -> None:
        if closing.close_code == 1000:  # noqa: PLR2004 - the client left: nobody to say it to
            return
        self._runtime.instruments.connections_cut.labels(reason=closing.message).inc()
        try:
            # A client that reads nothing does not get this either; the server then drops the transport.
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._send({"type": "websocket.close", "code": closing.close_code, "reason": closing.message})
        except (OSError, TimeoutError, RuntimeError):
            return

    async def _receive_all(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise CloseConnectionError(1000, "left")
            self._stream.verify_credential()
            data = message.get("bytes")
            await self._handle_raw(message.get("text") or "" if data is None else data, tasks)

    async def _handle_raw(self, data: bytes | str, tasks: asyncio.TaskGroup) -> None:
        try:
            self._pace.verify(self._runtime.clock.monotonic())
            frame = parse_frame(data)
        except LimitExceededError as error:
            await self._slow_down(error)
            return
        except FrameError as error:
            self._refuse(error)
            self._num_bad_frames += 1
            if self._num_bad_frames >= self._runtime.settings.max_bad_frames:
                await self._stream.flush()
                raise CloseConnectionError(TOO_MANY_BAD_FRAMES, "too_many_malformed_frames") from error
            return
        self._num_bad_frames = 0
        try:
            await self._handle(frame, tasks)
        except CloseConnectionError:
            raise
        except PratiqueError as error:
            self._refuse(error, frame)
        except Exception as error:
            # One frame's fault must not end a connection that follows other replies.
            _logger.exception("frame_failed")
            self._refuse(error, frame)

    async def _slow_down(self, error: LimitExceededError) -> None:
        """Refuse a frame that came too soon; end the connection of whoever does not listen to that."""
        self._refuse(error)
        if self._pace.is_flood:
            await self._stream.flush()
            raise CloseConnectionError(TRY_AGAIN_LATER, "too_many_frames") from error

    async def _handle(self, frame: ClientFrame, tasks: asyncio.TaskGroup) -> None:
        if isinstance(frame, Message):
            self._answer(await self._runtime.service.send(self._principal, frame), tasks)
        elif isinstance(frame, Retry):
            self._answer(await self._runtime.service.retry(self._principal, frame), tasks)
        elif isinstance(frame, Resume):
            self._spawn(self._resume(frame), tasks)
        elif isinstance(frame, Cancel):
            await self._runtime.service.cancel(self._owner, frame)
        elif isinstance(frame, Ping):
            self._stream.say(Pong(nonce=frame.nonce))
        else:
            assert_never(frame)

    def _answer(self, answer: Answer, tasks: asyncio.TaskGroup) -> None:
        self._stream.say(answer.accepted)
        conversation_id = ConversationId(answer.accepted.conversation_id)
        generation_id = GenerationId(answer.accepted.generation_id)
        self._spawn(self._follow(conversation_id, generation_id, answer.feed, 0), tasks)

    async def _resume(self, frame: Resume) -> None:
        try:
            found = await self._runtime.service.resume(self._owner, frame)
        except PratiqueError as error:
            self._refuse(error, frame)
            return
        self._stream.say(found.first)
        if found.feed is not None:
            generation_id = found.feed.generation_id
            await self._follow(ConversationId(frame.conversation_id), generation_id, found.feed, found.after_seq)

    async def _follow(
        self, conversation_id: ConversationId, generation_id: GenerationId, feed: Feed | None, after_seq: int
    ) -> None:
        """Send a reply's events; a second request for the same reply replaces the first, so that none comes twice."""
        task = asyncio.current_task()
        before = self._followed.get(generation_id)
        if before is not None:
            before.cancel()
        if task is not None:
            self._followed[generation_id] = task
        try:
            if feed is None:
                await self._say_snapshot(conversation_id, generation_id)
            else:
                await self._stream.follow(generation_id, feed, after_seq)
        except FeedLostError:
            await self._say_snapshot(conversation_id, generation_id)
        finally:
            if self._followed.get(generation_id) is task:
                del self._followed[generation_id]

    async def _say_snapshot(self, conversation_id: ConversationId, generation_id: GenerationId) -> None:
        try:
            self._stream.say(await self._runtime.service.snapshot(self._owner, conversation_id, generation_id))
        except CloseConnectionError:
            raise
        except PratiqueError as error:
            self._refuse(error, generation_id=generation_id)

    def _spawn(self, following: Coroutine[None, None, None], tasks: asyncio.TaskGroup) -> None:
        if self._num_tasks >= _MAX_FOLLOWED:
            following.close()
            message = f"One connection follows at most {_MAX_FOLLOWED} replies."
            self._stream.say(ErrorEvent(error=EventError(code="overloaded", message=message)))
            return
        self._num_tasks += 1
        tasks.create_task(following).add_done_callback(self._forget_task)

    def _forget_task(self, _: asyncio.Task[None]) -> None:
        self._num_tasks -= 1

    def _refuse(
        self, error: Exception, frame: ClientFrame | None = None, *, generation_id: GenerationId | None = None
    ) -> None:
        said = event_error_of(error)
        if isinstance(error, PratiqueError):
            self._refused(error)
        else:
            self._runtime.instruments.frames_refused.labels(code=said.code).inc()
        self._stream.say(
            ErrorEvent(
                error=said,
                client_message_id=getattr(frame, "client_message_id", None),
                generation_id=getattr(frame, "generation_id", generation_id),
            )
        )


def _first(group: BaseExceptionGroup[CloseConnectionError]) -> CloseConnectionError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise ValueError("An exception group is never empty.")
