"""A person with a few conversations, who talks to whichever replica answers, over HTTP and SSE.

Sends, sends again where the answer was lost, follows replies and resumes them with the cursor, reads, cancels, deletes.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Self

import aiohttp
from benchmarks.history.house import Replica
from benchmarks.history.outcomes import result_of
from benchmarks.history.record import Kind, Operation, Recorder, Result, SeenEvent, SeenTurn

from pratique.core.ids import PrincipalId

__all__ = ["Person"]

_WEIGHTS = {"send": 6, "repeat": 3, "read": 6, "resume": 3, "cancel": 1, "delete": 0.3}
_CONVERSATIONS = 3
_LOST = (aiohttp.ClientError, OSError, TimeoutError, json.JSONDecodeError)
_NUMBERED = frozenset({"started", "continued", "token", "ended"})


class _Refused(Exception):  # noqa: N818 - what the service answered, no fault of this program
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        # Below 500 nothing was done; of the others only the code can tell.
        self.result = Result.FAIL if 400 <= status < 500 else result_of(code)
        self.code = code


class Person:
    """One principal; `run` may run several times at once, as browser tabs do."""

    def __init__(self, name: str, replicas: Sequence[Replica], recorder: Recorder, draw: random.Random) -> None:
        self.principal_id = PrincipalId("")
        self._name = name
        self._replicas = replicas
        self._recorder = recorder
        self._draw = draw
        self._favourite = draw.randrange(len(replicas))
        self._number = 0
        self._conversations: list[str] = []
        self._unknown: list[Operation] = []
        self._unended: list[tuple[str, str, int]] = []
        """Conversation, generation and last event of replies whose end was not seen."""
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> Self:
        async with self._http.get(f"{self._replicas[0].url}/api/session") as answer:
            answer.raise_for_status()
            self.principal_id = PrincipalId((await answer.json())["principal_id"])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def run(self) -> None:
        """Do one random thing after another, for ever."""
        while True:
            (what,) = self._draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
            await self._do(what)
            await asyncio.sleep(self._draw.uniform(0, 0.1))

    async def resume_all(self) -> None:
        """Come back to every reply whose end was not seen, as a client does that is still there."""
        unended, self._unended = self._unended, []
        for cursor in dict.fromkeys(unended):
            await self._resume(*cursor, seconds=6.0)

    async def read_everywhere(self) -> None:
        """Read every conversation at every replica."""
        for replica in self._replicas:
            for name in self._conversations:
                await self._read(name, replica)

    async def _do(self, what: str) -> None:
        if what == "send":
            may_begin = len(self._conversations) < _CONVERSATIONS
            conversation = "" if may_begin and self._draw.random() < 0.5 else self._some(self._conversations, "")
            self._number += 1
            message = f"{self._name}-{self._number:05}"
            await self._send(conversation, message, f"says {message}")
        elif what == "repeat" and self._unknown:
            earlier = self._unknown.pop(self._draw.randrange(len(self._unknown)))
            await self._send(earlier.conversation_id, earlier.message_id, earlier.text)
        elif what == "resume" and self._unended:
            cursor = self._unended.pop(self._draw.randrange(len(self._unended)))
            await self._resume(*cursor, seconds=self._draw.choice((0.05, 6.0)))
        elif what == "read" and self._conversations:
            await self._read(self._draw.choice(self._conversations), self._replica())
        elif what == "cancel" and self._unended:
            await self._cancel(*self._draw.choice(self._unended)[:2])
        elif what == "delete" and self._conversations:
            await self._delete(self._draw.choice(self._conversations))

    def _some(self, names: Sequence[str], otherwise: str) -> str:
        return self._draw.choice(names) if names else otherwise

    def _replica(self) -> Replica:
        """The favourite, as sticky routing has it; another where that one is down, and now and then."""
        if not self._replicas[self._favourite].is_running or self._draw.random() < 0.1:
            self._favourite = self._draw.randrange(len(self._replicas))
        return self._replicas[self._favourite]

    async def _send(self, conversation_id: str, message_id: str, text: str) -> None:
        replica = self._replica()
        asked = self._recorder.begin(
            self._name,
            Kind.SEND,
            source=replica.source,
            conversation_id=conversation_id,
            message_id=message_id,
            text=text,
        )
        body = {"client_message_id": message_id, "text": text}
        if conversation_id:
            body["conversation_id"] = conversation_id
        accepted: dict[str, Any] = {}
        seconds = self._draw.choice((0.02, 0.2, 6.0, 6.0))
        try:
            async with (
                asyncio.timeout(seconds),
                aclosing(self._events("POST", f"{replica.url}/api/chat", json_body=body)) as events,
            ):
                async for accepted in events:
                    if accepted["type"] == "accepted":
                        break
                else:
                    raise TimeoutError
                self._accepted(asked, accepted)
                await self._follow(replica, accepted["conversation_id"], accepted["generation_id"], events, 0)
        except _Refused as refused:
            result = self._recorder.end(asked, refused.result, error=refused.code).result
            if result is Result.UNKNOWN:
                self._unknown.append(asked)
        except _LOST as error:
            if accepted.get("type") != "accepted":
                self._recorder.end(asked, Result.UNKNOWN, error=type(error).__name__)
                self._unknown.append(asked)

    def _accepted(self, asked: Operation, accepted: dict[str, Any]) -> None:
        self._recorder.end(
            asked,
            Result.OK,
            conversation_id=accepted["conversation_id"],
            user_turn_id=accepted["user_turn_id"],
            generation_id=accepted["generation_id"],
            duplicate=accepted["duplicate"],
        )
        if accepted["conversation_id"] not in self._conversations:
            self._conversations.append(accepted["conversation_id"])

    async def _resume(self, conversation_id: str, generation_id: str, last_seq: int, *, seconds: float) -> None:
        replica = self._replica()
        url = f"{replica.url}/api/conversations/{conversation_id}/events"
        headers = {"last-event-id": f"{generation_id}:{last_seq}"}
        events = self._events("GET", url, headers=headers)
        try:
            async with asyncio.timeout(seconds), aclosing(events):
                await self._follow(replica, conversation_id, generation_id, events, last_seq)
        except (_Refused, *_LOST):
            return

    async def _follow(
        self,
        replica: Replica,
        conversation_id: str,
        generation_id: str,
        events: AsyncIterator[dict[str, Any]],
        last_seq: int,
    ) -> None:
        """Record what comes of a reply, until its end, the connection's, or this client's patience's."""
        asked = self._recorder.begin(
            self._name,
            Kind.REPLY,
            source=replica.source,
            conversation_id=conversation_id,
            generation_id=generation_id,
        )
        seen: list[SeenEvent] = []
        is_over = is_disowned = goes_on = False
        try:
            async for event in events:
                is_disowned = event["type"] == "not_resumable"
                goes_on = is_disowned and event["conversation"]["active_generation_id"] == generation_id
                is_over = is_disowned or event["type"] == "ended"
                if event["type"] in _NUMBERED:
                    seen.append(SeenEvent(event["seq"], event.get("text"), event.get("finish_reason")))
                if is_over:
                    return
        finally:
            self._recorder.end(asked, Result.OK, events=tuple(seen), is_disowned=is_disowned)
            if goes_on:
                self._unended.append((conversation_id, generation_id, 0))
            elif not is_over:
                self._unended.append((conversation_id, generation_id, seen[-1].seq if seen else last_seq))

    async def _read(self, conversation_id: str, replica: Replica) -> None:
        asked = self._recorder.begin(self._name, Kind.READ, source=replica.source, conversation_id=conversation_id)
        try:
            shown = await self._ask("GET", f"{replica.url}/api/conversations/{conversation_id}")
        except _Refused as refused:
            self._recorder.end(asked, refused.result, error=refused.code)
        except _LOST as error:
            self._recorder.end(asked, Result.UNKNOWN, error=type(error).__name__)
        else:
            turns = tuple(
                SeenTurn(
                    turn_id=turn["turn_id"],
                    role=turn["role"],
                    text=turn["text"],
                    generation_id=turn["generation_id"] or "",
                )
                for turn in shown["turns"]
            )
            self._recorder.end(asked, Result.OK, version=shown["version"], turns=turns)

    async def _cancel(self, conversation_id: str, generation_id: str) -> None:
        replica = self._replica()
        asked = self._recorder.begin(
            self._name,
            Kind.CANCEL,
            source=replica.source,
            conversation_id=conversation_id,
            generation_id=generation_id,
        )
        await self._settle(asked, "POST", f"{replica.url}/api/cancel", {"generation_id": generation_id})

    async def _delete(self, conversation_id: str) -> None:
        replica = self._replica()
        asked = self._recorder.begin(self._name, Kind.DELETE, source=replica.source, conversation_id=conversation_id)
        self._conversations.remove(conversation_id)
        await self._settle(asked, "DELETE", f"{replica.url}/api/conversations/{conversation_id}")

    async def _settle(self, asked: Operation, method: str, url: str, json_body: dict[str, str] | None = None) -> None:
        try:
            await self._ask(method, url, json_body)
        except _Refused as refused:
            self._recorder.end(asked, refused.result, error=refused.code)
        except _LOST as error:
            self._recorder.end(asked, Result.UNKNOWN, error=type(error).__name__)
        else:
            self._recorder.end(asked, Result.OK)

    async def _ask(self, method: str, url: str, json_body: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        async with asyncio.timeout(4.0), self._http.request(method, url, json=json_body) as answer:
            await _require_accepted(answer)
            return await answer.json() if answer.status != 204 else None

    async def _events(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, json_body: dict[str, str] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        headers = {"accept": "text/event-stream", **(headers or {})}
        timeout = aiohttp.ClientTimeout(sock_connect=1.0, sock_read=4.0)
        async with self._http.request(method, url, headers=headers, timeout=timeout, json=json_body) as answer:
            await _require_accepted(answer)
            async for line in answer.content:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))


async def _require_accepted(answer: aiohttp.ClientResponse) -> None:
    if answer.status >= 400:
        error = (await answer.json(content_type=None)).get("error") or {}
        raise _Refused(answer.status, str(error.get("code", answer.status)))
