"""How each kind of person talks: over WebSocket with our client, over SSE and JSON by hand, and over `/v1`.

SSE is read by hand on purpose: a client that drops what it has seen already would hide an event that came twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from random import Random
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from benchmarks.drill.people import Person, Refused, Scene, Watch

from pratique.client import (
    Accepted,
    ChatClient,
    ClientError,
    ClientSettings,
    Continued,
    Ended,
    Replaced,
    Started,
    Token,
)
from pratique.client._sse import SseParser

if TYPE_CHECKING:
    from benchmarks.drill.history import Said

    from pratique.client import ReplyEvent, ReplyStream

__all__ = ["make_people"]

_LOST: Final = (aiohttp.ClientError, OSError, TimeoutError)
_CHANCE_TO_LEAVE: Final = 0.15
_CHANCE_OF_TWO: Final = 0.2
_SILENCE_SECONDS: Final = 12.0
_MAX_EVENT_BYTES: Final = 1 << 20
_OPENAI_SECONDS: Final = 30.0


class SocketPerson(Person):
    """Over WebSocket, with our own client, which reconnects and resumes. Now and then leaves and returns."""

    transport = "websocket"

    async def live(self) -> None:
        settings = ClientSettings(reconnect_timeout_seconds=30, connect_timeout_seconds=2)
        async with ChatClient(self.scene.url, settings=settings) as self._chat:
            await self.talk()

    async def attempt(self, said: Said) -> None:
        leaves_after = self.dice.randint(3, 40) if self.dice.random() < _CHANCE_TO_LEAVE else None
        stream = self._stream(said, last_seq=0)
        said.disown()
        try:
            if await self._read(stream, said, leaves_after):
                await self._read(self._stream(said, last_seq=stream.last_seq), said, None)
        except ClientError as error:
            raise Refused(error.wire_code) from error

    def _stream(self, said: Said, *, last_seq: int) -> ReplyStream:
        if said.generation_id is not None and said.conversation_id is not None:
            return self._chat.resume(said.conversation_id, generation_id=said.generation_id, last_seq=last_seq)
        return self._chat.send(
            said.text, conversation_id=said.conversation_id, client_message_id=said.client_message_id
        )

    async def _read(self, stream: ReplyStream, said: Said, leaves_after: int | None) -> bool:
        """Read to the end, or until the person leaves; return whether they left."""
        watch: Watch | None = None
        async with stream:
            async for event in stream:
                self._take(event, said)
                watch = watch or (Watch(self.scene) if said.acknowledged is not None else None)
                if watch is not None and isinstance(event, Token | Ended):
                    watch.heard()
                is_tired = leaves_after is not None and stream.last_seq >= leaves_after
                if is_tired and said.ended is None:
                    return True
        if said.ended is None:
            raise Refused("reply_lost")
        return False

    def _take(self, event: ReplyEvent, said: Said) -> None:
        match event:
            case Accepted():
                self.acknowledge(
                    said,
                    conversation_id=event.conversation_id,
                    user_turn_id=event.user_turn_id,
                    generation_id=event.generation_id,
                )
            case Started() | Continued():
                said.show(event.seq)
            case Token():
                said.show(event.seq, event.text)
            case Replaced():
                said.disown(event.text)
            case Ended():
                said.show(event.seq, None, event.finish_reason.value)
                error = event.error.code if event.error else None
                self.end(said, finish_reason=event.finish_reason.value, turn_id=event.turn_id, error=error)
            case _:
                pass


class _HttpPerson(Person):
    """With a session cookie of their own and nothing but HTTP."""

    async def live(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=2)
        # No affinity cookie is kept: each request may land on another replica.
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as self.http:
            while not self.scene.stopping.is_set():
                with contextlib.suppress(*_LOST, KeyError):
                    async with asyncio.timeout(3), self.http.get(f"{self.scene.url}/api/session") as response:
                        self._cookie = f"pratique_session={response.cookies['pratique_session'].value}"
                        break
                await asyncio.sleep(0.3)
            else:
                return
            await self.talk()

    def headers(self, accept: str) -> dict[str, str]:
        return {"Accept": accept, "Content-Type": "application/json", "Cookie": self._cookie}

    def body(self, said: Said) -> dict[str, Any]:
        body = {"client_message_id": said.client_message_id, "text": said.text}
        return body | ({"conversation_id": said.conversation_id} if said.conversation_id else {})


class SsePerson(_HttpPerson):
    """Over server-sent events with Last-Event-ID; checks every number."""

    transport = "sse"

    async def attempt(self, said: Said) -> None:
        self._seq = 0
        said.disown()
        while said.ended is None:
            seen = self._seq
            try:
                await self._one_stream(said)
            except _LOST as error:
                if self._seq == seen:
                    raise Refused(type(error).__name__) from error
            # The stream ended in order, or after some progress: go on from the cursor.
            await asyncio.sleep(0.1)

    async def _one_stream(self, said: Said) -> None:
        parser, watch = SseParser(max_event_bytes=_MAX_EVENT_BYTES), Watch(self.scene)
        async with self._open(said) as response:
            if response.status != 200:
                raise Refused(_code_of(response.status, await response.read()))
            while said.ended is None:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    chunk = await response.content.readany()
                if not chunk:
                    return
                for data in parser.feed(chunk):
                    event = json.loads(data)
                    self._take(event, said)
                    if event["type"] in {"token", "ended"}:
                        watch.heard()

    def _open(self, said: Said) -> Any:  # noqa: ANN401 - aiohttp's own context manager
        headers = self.headers("text/event-stream")
        if said.generation_id is None:
            return self.http.post(f"{self.scene.url}/api/chat", json=self.body(said), headers=headers)
        headers["Last-Event-ID"] = f"{said.generation_id}:{self._seq}"
        return self.http.get(f"{self.scene.url}/api/conversations/{said.conversation_id}/events", headers=headers)

    def _take(self, event: dict[str, Any], said: Said) -> None:
        if "seq" in event:
            self._take_numbered(event, said)
        elif event["type"] == "accepted":
            ids = {name: event[name] for name in ("conversation_id", "user_turn_id", "generation_id")}
            self.acknowledge(said, **ids)
        elif event["type"] == "not_resumable":
            self._take_snapshot(event["conversation"], said)
        elif event["type"] == "error":
            raise Refused(event["error"]["code"])

    def _take_numbered(self, event: dict[str, Any], said: Said) -> None:
        if event["generation_id"] != said.generation_id:
            said.faults.append(f"event of another reply: {event['generation_id']}")
        if event["seq"] != self._seq + 1:
            said.faults.append(f"event {event['seq']} after event {self._seq}")
        self._seq = event["seq"]
        said.show(event["seq"], event.get("text"), event.get("finish_reason"))
        if event["type"] == "ended":
            error = event["error"]["code"] if event["error"] else None
            self.end(said, finish_reason=event["finish_reason"], turn_id=event["turn_id"], error=error)

    def _take_snapshot(self, conversation: dict[str, Any], said: Said) -> None:
        mine = [turn for turn in conversation["turns"] if turn["generation_id"] == said.generation_id]
        answer = next((turn for turn in mine if turn["role"] == "assistant"), None)
        if answer is not None:
            said.disown(answer["text"])
            error = answer["error"]["code"] if answer["error"] else None
            self.end(said, finish_reason=answer["finish_reason"] or "stop", turn_id=answer["turn_id"], error=error)
        elif conversation["active_generation_id"] == said.generation_id:
            # Another replica goes on with it from less than was shown: follow it from its beginning.
            self._seq = 0
            said.disown()
        else:
            said.disown()
            self.end(said, finish_reason="error", turn_id=None, error="interrupted")


class JsonPerson(_HttpPerson):
    """Posts and waits for the whole reply; now and then the same message twice at once."""

    transport = "json"

    async def attempt(self, said: Said) -> None:
        times = 2 if self.dice.random() < _CHANCE_OF_TWO else 1
        answers = await asyncio.gather(*(self._post(said) for _ in range(times)), return_exceptions=True)
        whole = [answer for answer in answers if not isinstance(answer, BaseException)]
        if not whole:
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
        for answer in whole:
            self._take(answer, said)

    async def _post(self, said: Said) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(_OPENAI_SECONDS),
                self.http.post(
                    f"{self.scene.url}/api/chat", json=self.body(said), headers=self.headers("application/json")
                ) as response,
            ):
                raw = await response.read()
        except _LOST as error:
            raise Refused(type(error).__name__) from error
        if response.status != 200:
            raise Refused(_code_of(response.status, raw))
        answer: dict[str, Any] = json.loads(raw)
        return answer

    def _take(self, answer: dict[str, Any], said: Said) -> None:
        ids = {name: answer[name] for name in ("conversation_id", "user_turn_id", "generation_id")}
        self.acknowledge(said, **ids)
        turn = answer["turn"]
        if said.ended is not None and said.reply != (turn["text"] if turn else ""):
            said.faults.append("the same message was answered twice, differently")
        said.reply = turn["text"] if turn else ""
        error = answer["error"]["code"] if answer["error"] else None
        turn_id = turn["turn_id"] if turn else None
        self.end(said, finish_reason=answer["finish_reason"] or "error", turn_id=turn_id, error=error)


class OpenAiPerson(Person):
    """A program with an API key that speaks the OpenAI API: nothing is stored, an error is simply an error."""

    transport = "v1"
    _model = ""

    async def live(self) -> None:
        headers = {"Authorization": f"Bearer {self.scene.api_key}"}
        async with aiohttp.ClientSession(headers=headers) as self._http:
            await self.talk()

    async def attempt(self, said: Said) -> None:
        with contextlib.suppress(Refused):
            await self._ask(said)
        # Nothing is retried: each error is one that a program was shown.
        said.ended = self.scene.now()

    async def _ask(self, said: Said) -> None:
        streams = self.dice.random() < 0.5
        body = {
            "model": self._model or await self._find_model(),
            "messages": [{"role": "user", "content": said.text}],
            "max_tokens": 20,
            "stream": streams,
        }
        url = f"{self.scene.url}/v1/chat/completions"
        try:
            async with asyncio.timeout(_OPENAI_SECONDS), self._http.post(url, json=body) as response:
                raw = await response.read()
        except _LOST as error:
            raise self._trouble(type(error).__name__) from error
        if response.status != 200:
            raise self._trouble(_code_of(response.status, raw))
        if streams and b"data: [DONE]" not in raw:
            raise self._trouble("stream_cut")

    async def _find_model(self) -> str:
        try:
            async with asyncio.timeout(3), self._http.get(f"{self.scene.url}/v1/models") as response:
                self._model = str((await response.json())["data"][0]["id"])
        except (*_LOST, ValueError, LookupError) as error:
            raise self._trouble(f"models: {type(error).__name__}") from error
        return self._model

    def _trouble(self, code: str) -> Refused:
        self.scene.history.trouble(self.scene.now(), self.transport, code)
        return Refused(code)


def make_people(scene: Scene, *, number: int, seed: int) -> list[Person]:
    """Return that many people: half of them over WebSocket, a quarter SSE, the others JSON and `/v1`."""
    kinds: tuple[type[Person], ...] = (SocketPerson, SsePerson, SocketPerson, JsonPerson)
    kinds += (SocketPerson, SsePerson, SocketPerson, OpenAiPerson)
    chosen = [kinds[index % len(kinds)] for index in range(number)]
    return [
        kind(f"person{index:03}", scene, Random(f"{seed}/{index}"))  # noqa: S311 - repeatable
        for index, kind in enumerate(chosen)
    ]


def _code_of(status: int, body: bytes) -> str:
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return f"http {status}"
    return f"{code or 'http'} ({status})"
