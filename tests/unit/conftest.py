"""A chat service in this process that follows a script: where it cuts, how, and what it forgets."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from pratique.client import ChatClient, ClientSettings
from pratique.core.ids import SequentialIds
from pratique.orchestrator.protocol import events, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEARTBEAT_SECONDS = 0.1
WORDS = ("Paris ", "is ", "the ", "capital ", "of ", "France.")


class How(enum.Enum):
    """How a connection ends before its reply does."""

    ABORT = "abort"
    SILENCE = "silence"
    GOING_AWAY = "going_away"
    CLOSE_1001 = "1001"
    CLOSE_1013 = "1013"
    CLOSE_1008 = "1008"
    CLOSE_1009 = "1009"
    CLOSE_4400 = "4400"


@dataclass(frozen=True)
class Cut:
    """End a connection after `after` events. `is_stored`: the frame was taken even where `accepted` did not arrive."""

    after: int
    how: How = How.ABORT
    is_stored: bool = True


class CutError(Exception):
    """The script ends this connection here."""


@dataclass
class Generation:
    """One reply, made in advance."""

    conversation_id: str
    generation_id: str
    log: list[events.GenerationEvent]
    is_log_lost: bool = False


@dataclass
class ScriptedService:
    """Contract and memory of a chat service, with a script of misfortunes: one entry of `cuts` per connection."""

    cuts: deque[Cut | None] = field(default_factory=deque)
    words: tuple[str, ...] = WORDS
    overlap: int = 0
    """How many events before the cursor a resume repeats."""
    skipped_seq: int | None = None
    """Left out once, on a first delivery: a gap."""
    refusals: deque[events.EventError] = field(default_factory=deque)
    """Answers to the next frames."""
    http_errors: deque[web.Response] = field(default_factory=deque)
    """Answers to the next HTTP requests, whatever they ask."""
    stalls: int = 0
    """So many requests are not answered in time."""
    handshake_statuses: deque[int] = field(default_factory=deque)
    """Answers to the next WebSocket handshakes."""
    extra_messages: list[str] = field(default_factory=list)
    """Raw messages sent right after `hello`."""
    is_holding: bool = False
    """Stop before `ended` until cancelled."""
    model: events.ModelState = field(default_factory=lambda: events.ModelState(ready=True, replicas=()))
    final: dict[str, Any] = field(default_factory=dict)
    """Fields of `ended` to set otherwise."""

    generations: dict[str, Generation] = field(default_factory=dict)
    by_message: dict[str, Generation] = field(default_factory=dict)
    asked: list[tuple[str, frames.ClientFrame]] = field(default_factory=list)
    cookies_seen: list[dict[str, str]] = field(default_factory=list)
    keys_seen: list[str | None] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    conversations: dict[str, events.Conversation] = field(default_factory=dict)

    loop: asyncio.AbstractEventLoop | None = None
    """Where it is served."""

    def release(self) -> None:
        """Let a held reply end; from any thread."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.cancelled.set)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._note])
        app.router.add_get("/api/session", self._session)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/api/ws", self._websocket)
        app.router.add_post("/api/chat", self._post)
        app.router.add_post("/api/retry", self._post)
        app.router.add_post("/api/cancel", self._cancel)
        app.router.add_get("/api/conversations", self._list)
        app.router.add_get("/api/conversations/{id}", self._get)
        app.router.add_patch("/api/conversations/{id}", self._patch)
        app.router.add_delete("/api/conversations/{id}", self._delete)
        app.router.add_get("/api/conversations/{id}/events", self._events)
        return app

    # What the service knows

    def take(self, frame: frames.ClientFrame, transport: str) -> list[events.ServerEvent]:
        self.asked.append((transport, frame))
        if self.refusals:
            return [events.ErrorEvent(error=self.refusals.popleft())]
        if isinstance(frame, frames.Resume):
            return self._resume(frame)
        assert isinstance(frame, frames.Message | frames.Retry)
        known = frame.client_message_id in self.by_message
        generation = self.by_message.get(frame.client_message_id) or self._begin(frame)
        accepted = events.Accepted(
            client_message_id=frame.client_message_id,
            conversation_id=generation.conversation_id,
            user_turn_id="turn_1",
            generation_id=generation.generation_id,
            duplicate=known,
        )
        return [accepted, *self._after(generation, 0)]

    def _begin(self, frame: frames.Message | frames.Retry) -> Generation:
        number = len(self.generations) + 1
        conversation_id = frame.conversation_id or f"cnv_{number}"
        ids: dict[str, Any] = {"conversation_id": conversation_id, "generation_id": f"gen_{number}"}
        log: list[events.GenerationEvent] = [
            events.Started(**ids, seq=1, model="small", prompt_tokens=7, was_truncated=True, turns_dropped=2)
        ]
        log += [events.Token(**ids, seq=2 + index, text=word) for index, word in enumerate(self.words)]
        end: dict[str, Any] = {
            "finish_reason": events.FinishReason.STOP,
            "turn_id": f"turn_{number + 1}",
            "usage": events.Usage(prompt_tokens=7, completion_tokens=len(self.words)),
        }
        log.append(events.Ended(**ids, seq=len(log) + 1, **(end | self.final)))
        generation = Generation(conversation_id, ids["generation_id"], log)
        self.generations[generation.generation_id] = generation
        self.by_message[frame.client_message_id] = generation
        return generation

    def _resume(self, frame: frames.Resume) -> list[events.ServerEvent]:
        conversation_id = frame.conversation_id
        generation = self.generations.get(frame.generation_id or "")
        if frame.generation_id is None and self.is_holding:
            generation = next(iter(self.generations.values()))
        if generation is not None and not generation.is_log_lost:
            answer = events.Reconnected(
                conversation_id=conversation_id, generation_id=generation.generation_id, last_seq=frame.last_seq
            )
            return [answer, *self._after(generation, max(0, frame.last_seq - self.overlap))]
        if conversation_id not in self.conversations:
            return [events.Reconnected(conversation_id=conversation_id, generation_id=None, last_seq=0)]
        stored = self.conversations[conversation_id]
        return [
            events.NotResumable(conversation_id=conversation_id, generation_id=frame.generation_id, conversation=stored)
        ]

    def _after(self, generation: Generation, last_seq: int) -> list[events.GenerationEvent]:
        missing, self.skipped_seq = self.skipped_seq, None
        return [event for event in generation.log if event.seq > last_seq and event.seq != missing]

    # Transports

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if self.handshake_statuses:
            return web.Response(status=self.handshake_statuses.popleft())
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        cut = self.cuts.popleft() if self.cuts else None
        sent = 0

        async def send(event: events.ServerEvent) -> None:
            nonlocal sent
            await self._maybe_cut(cut, sent, socket, request)
            await socket.send_str(msgspec.json.encode(event).decode())
            sent += 1

        try:
            await send(events.Hello(replica="one", principal_id="usr_1", heartbeat_seconds=HEARTBEAT_SECONDS))
            for raw in self.extra_messages:
                await socket.send_str(raw)
            await send(self.model)
            if cut is not None and not cut.is_stored:
                await self._maybe_cut(cut, sent, socket, request)
            async for message in socket:
                assert message.type is WSMsgType.TEXT
                frame: frames.ClientFrame = msgspec.json.decode(message.data, type=frames.ClientFrame)
                await self._stream(self.take(frame, "websocket"), send)
        except (CutError, ConnectionError):
            pass
        return socket

    async def _maybe_cut(
        self, cut: Cut | None, sent: int, socket: web.WebSocketResponse | None, request: web.Request
    ) -> None:
        if cut is None or sent < cut.after:
            return
        if cut.how is How.SILENCE:
            await asyncio.sleep(10 * HEARTBEAT_SECONDS)
        elif cut.how is How.GOING_AWAY and socket is not None:
            going = events.GoingAway(reconnect_after_seconds=0.001)
            await socket.send_str(msgspec.json.encode(going).decode())
            await asyncio.sleep(HEARTBEAT_SECONDS)
        elif cut.how.value.isdigit() and socket is not None:
            await socket.close(code=int(cut.how.value), message=b"scripted")
            raise CutError
        if request.transport is not None:
            request.transport.abort()
        raise CutError

    async def _stream(
        self,
        answer: list[events.ServerEvent],
        send: Callable[[events.ServerEvent], Any],
    ) -> None:
        for event in answer:
            if isinstance(event, events.Ended) and self.is_holding:
                await send(events.Heartbeat())
                await self.cancelled.wait()
                await send(msgspec.structs.replace(event, finish_reason=events.FinishReason.CANCELLED))
            else:
                await send(event)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        kind: Any = frames.Message if request.path.endswith("chat") else frames.Retry
        frame = msgspec.json.decode(await request.read(), type=kind)
        return await self._respond(request, frame)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        frame = frames.Resume(
            conversation_id=request.match_info["id"],
            generation_id=request.query.get("generation_id"),
            last_seq=int(request.query.get("last_seq", "0")),
        )
        return await self._respond(request, frame)

    async def _respond(self, request: web.Request, frame: frames.ClientFrame) -> web.StreamResponse:
        answer = self.take(frame, "sse")
        if isinstance(answer[0], events.ErrorEvent):
            return error_response(409, answer[0].error)
        cut = self.cuts.popleft() if self.cuts else None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        sent = 0

        async def send(event: events.ServerEvent) -> None:
            nonlocal sent
            await self._maybe_cut(cut, sent, None, request)
            await response.write(b": keep-alive\n\nevent: any\ndata: " + msgspec.json.encode(event) + b"\n\n")
            sent += 1

        with contextlib.suppress(CutError, ConnectionError):
            await self._stream(answer, send)
        return response

    # The rest of the API

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.cookies_seen.append(dict(request.cookies))
        self.keys_seen.append(request.headers.get("Authorization"))
        if self.stalls:
            self.stalls -= 1
            await asyncio.sleep(1)
        if self.http_errors:
            return self.http_errors.popleft()
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _session(self, request: web.Request) -> web.Response:
        response = json_response(
            {"principal_id": "usr_1", "protocol_version": 1, "replica": "one", "heartbeat_seconds": HEARTBEAT_SECONDS}
        )
        response.set_cookie("pratique_affinity", "seven")
        response.set_cookie("pratique_session", "signed", httponly=True)
        return response

    async def _status(self, request: web.Request) -> web.Response:
        model = {"ready": self.model.ready, "replicas": self.model.replicas}
        return json_response({"replica": "one", "draining": False, "model": model})

    async def _cancel(self, request: web.Request) -> web.Response:
        frame = msgspec.json.decode(await request.read(), type=frames.Cancel)
        was_running = self.is_holding and not self.cancelled.is_set()
        self.cancelled.set()
        return json_response({"generation_id": frame.generation_id, "cancelled": was_running}, status=202)

    async def _list(self, request: web.Request) -> web.Response:
        return json_response({"conversations": [summary_of(one) for one in self.conversations.values()], "next": "2"})

    async def _get(self, request: web.Request) -> web.Response:
        found = self.conversations.get(request.match_info["id"])
        return json_response(found) if found else NOT_FOUND()

    async def _patch(self, request: web.Request) -> web.Response:
        found = self.conversations[request.match_info["id"]]
        title = msgspec.json.decode(await request.read())["title"]
        return json_response(summary_of(msgspec.structs.replace(found, title=title)))

    async def _delete(self, request: web.Request) -> web.Response:
        return web.Response(status=204) if self.conversations.pop(request.match_info["id"], None) else NOT_FOUND()


def summary_of(conversation: events.Conversation) -> events.ConversationSummary:
    return events.ConversationSummary(
        conversation_id=conversation.conversation_id,
        title=conversation.title,
        created_at=conversation.created_at,
        updated_at=conversation.updated_at,
    )


def json_response(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def error_response(status: int, error: events.EventError) -> web.Response:
    return json_response({"error": error}, status)


def NOT_FOUND() -> web.Response:  # noqa: N802 - reads as the constant answer it is
    return error_response(404, events.EventError(code="conversation_not_found", message="There is none."))


async def close_all(server: TestServer) -> None:
    """Close the server and every connection, those included that were only just accepted or are being aborted."""
    await settle()
    await server.close()
    open_transports: Any = getattr(asyncio.get_running_loop(), "_transports", {})
    for transport in list(open_transports.values()):
        transport.abort()
    await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Kit:
    """What the tests need: the script's words, and running clients against it."""

    Cut = Cut
    How = How
    WORDS = WORDS
    Service = ScriptedService
    error_response = staticmethod(error_response)
    json_response = staticmethod(json_response)

    @staticmethod
    def settings(**changes: Any) -> ClientSettings:
        quick = {
            "backoff_first_seconds": 0.001,
            "backoff_cap_seconds": 0.004,
            "connect_timeout_seconds": 2.0,
            "request_timeout_seconds": 2.0,
            "reconnect_timeout_seconds": 5.0,
        }
        return msgspec.convert(quick | changes, ClientSettings)

    @staticmethod
    async def serve(service: ScriptedService) -> TestServer:
        service.loop = asyncio.get_running_loop()
        server = TestServer(service.application(), host="127.0.0.1")
        await server.start_server(shutdown_timeout=0.01)
        return server

    @classmethod
    @contextlib.contextmanager
    def serve_in_thread(cls, service: ScriptedService) -> Iterator[str]:
        """Run the service beside code that runs a loop of its own; gives its URL."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="scripted service")
        thread.start()
        try:
            server = asyncio.run_coroutine_threadsafe(cls.serve(service), loop).result(5)
            yield str(server.make_url("/")).rstrip("/")
            asyncio.run_coroutine_threadsafe(close_all(server), loop).result(5)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()

    @classmethod
    def client(cls, server: TestServer, *, api_key: str | None = None, **changes: Any) -> ChatClient:
        return ChatClient(
            str(server.make_url("/")),
            api_key=api_key,
            settings=cls.settings(**changes),
            ids=SequentialIds(),
            random=lambda: 0.5,
        )


@pytest.fixture
def chat_kit() -> type[Kit]:
    return Kit
