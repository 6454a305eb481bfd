"""Run as a process of its own: random clients of one conversation store, and the producers of its replies.

`python -m benchmarks.history.storeclient SPEC HISTORY NAME SEED`: `SPEC` is a `StoreSpec` as JSON. It goes on until it
is killed. What an earlier life of the same name left unknown is sent again, with the same message ids.
"""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from benchmarks.history.outcomes import result_of
from benchmarks.history.record import Kind, Operation, Recorder, Result, SeenEvent, SeenTurn, load_history

from pratique.core.clock import SystemClock
from pratique.core.errors import PratiqueError
from pratique.core.ids import ConversationId, GenerationId, PrincipalId, RandomIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import ConversationStore, GenerationOptions, Outcome, StoredConversation
from pratique.orchestrator.conversations.build import open_store
from pratique.orchestrator.conversations.settings import StoreSettings
from pratique.orchestrator.protocol.events import FinishReason

__all__ = ["OWNER", "StoreSpec", "open_spec", "read_into", "seen_turns"]

OWNER = PrincipalId("usr_history")
_CLIENTS = 4
_CONVERSATIONS = 6
"""So few are talked in at a time, that clients meet."""
_WEIGHTS = {"send": 6, "repeat": 2, "read": 5, "finish": 4, "delete": 0.25}


class StoreSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A store as several processes open it."""

    database: str | None = None
    """The SQLite file."""
    settings: StoreSettings = StoreSettings()


async def open_spec(spec: StoreSpec, stack: AsyncExitStack) -> ConversationStore:
    """Open it for as long as the stack lives."""
    clock = SystemClock()
    database = Path(spec.database) if spec.database else None
    return await open_store(
        spec.settings, stack, database=database, clock=clock, ids=RandomIds(clock), metrics=Metrics()
    )


async def read_into(
    store: ConversationStore, recorder: Recorder, worker: str, name: str, *, is_final: bool = False
) -> StoredConversation | None:
    """Read a conversation and record what it showed."""
    asked = recorder.begin(worker, Kind.READ, source="store", conversation_id=name, is_final=is_final)
    try:
        found = await store.load_conversation(ConversationId(name))
    except PratiqueError as error:
        recorder.end(asked, result_of(error.code), error=error.code)
        return None
    shown = found.conversation
    recorder.end(
        asked,
        Result.OK,
        version=shown.version,
        active_generation_id=shown.active_generation_id or "",
        turns=seen_turns(found),
    )
    return found


def seen_turns(stored: StoredConversation) -> tuple[SeenTurn, ...]:
    """Return what a read of the store shows."""
    return tuple(
        SeenTurn(turn_id=turn.turn_id, role=turn.role.value, text=turn.text, generation_id=turn.generation_id or "")
        for turn in stored.conversation.turns
    )


class _Clients:
    def __init__(self, store: ConversationStore, recorder: Recorder, name: str, draw: random.Random) -> None:
        self._store = store
        self._recorder = recorder
        self._name = name
        self._draw = draw
        self._number = 0
        self.unknown: list[Operation] = []

    async def run(self) -> None:
        """Do one random thing after another, for ever."""
        while True:
            (what,) = self._draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
            try:
                # Some give up before the answer: what came of it, they do not know.
                async with asyncio.timeout(self._draw.choice((0.004, 0.02, 5.0, 5.0, 5.0, 5.0))):
                    await self._do(what)
            except TimeoutError:
                await asyncio.sleep(0)

    async def _do(self, what: str) -> None:
        if what == "repeat":
            if self.unknown:
                earlier = self.unknown.pop(self._draw.randrange(len(self.unknown)))
                await self._send(earlier.conversation_id, earlier.message_id, earlier.text)
            return
        conversation = await self._some_conversation()
        if what == "send" or conversation is None:
            self._number += 1
            message = f"{self._name}-{self._number:05}"
            await self._send(conversation or "", message, f"says {message}")
        elif what == "read":
            await read_into(self._store, self._recorder, self._name, conversation)
        elif what == "finish":
            await self._finish_running(conversation)
        else:
            await self._delete(conversation)

    async def _some_conversation(self) -> str | None:
        """One of those that were spoken in lately; None: begin another."""
        try:
            page = await self._store.list_conversations(owner=OWNER, limit=_CONVERSATIONS)
        except PratiqueError:
            return None
        shown = page.conversations
        if len(shown) < _CONVERSATIONS or self._draw.random() < 0.05:
            return None
        return self._draw.choice(shown).conversation_id

    async def _send(self, conversation_id: str, message_id: str, text: str) -> None:
        asked = self._recorder.begin(
            self._name,
            Kind.SEND,
            source="store",
            conversation_id=conversation_id,
            message_id=message_id,
            text=text,
        )
        try:
            begun = await self._store.begin_turn(
                owner=OWNER,
                conversation_id=ConversationId(conversation_id) if conversation_id else None,
                client_message_id=message_id,
                text=text,
                options=GenerationOptions(),
            )
        except PratiqueError as error:
            if self._recorder.end(asked, result_of(error.code), error=error.code).result is Result.UNKNOWN:
                self.unknown.append(asked)
            return
        except asyncio.CancelledError:
            self.unknown.append(asked)
            raise
        self._recorder.end(
            asked,
            Result.OK,
            conversation_id=begun.conversation_id,
            user_turn_id=begun.user_turn_id,
            generation_id=begun.generation_id,
            duplicate=begun.duplicate,
        )
        if self._draw.random() < 0.6:
            await self._finish(begun.conversation_id, begun.generation_id, epoch=1)

    async def _finish_running(self, conversation_id: str) -> None:
        """Take over a reply that somebody began, whether they still make it or not."""
        try:
            found = await self._store.load_conversation(ConversationId(conversation_id))
            running = found.conversation.active_generation_id
            if not running:
                return
            record = await self._store.load_generation(GenerationId(running))
        except PratiqueError:
            return
        await self._finish(conversation_id, running, epoch=record.epoch + self._draw.choice((0, 1)))

    async def _finish(self, conversation_id: str, generation_id: str, *, epoch: int) -> None:
        """Say a reply of one's own making, and record which one was stored in the end."""
        name = GenerationId(generation_id)
        is_whole = self._draw.random() < 0.8
        reason = FinishReason.STOP if is_whole else FinishReason.CANCELLED
        text = f"{self._name} answers {generation_id} in epoch {epoch}" if is_whole else self._draw.choice(("", "half"))
        asked = self._recorder.begin(
            self._name, Kind.REPLY, source="store", conversation_id=conversation_id, generation_id=generation_id
        )
        try:
            await self._store.claim(name, epoch=epoch, holder=self._name)
            ended = await self._store.finish(name, epoch=epoch, outcome=Outcome(text=text, finish_reason=reason))
        except PratiqueError as error:
            self._recorder.end(asked, result_of(error.code), error=error.code)
            return
        outcome = ended.generation.outcome
        if outcome is None:
            raise RuntimeError("A finished generation has an outcome.")
        events = (SeenEvent(1, outcome.text), SeenEvent(2, None, outcome.finish_reason.value))
        self._recorder.end(asked, Result.OK, events=events)

    async def _delete(self, conversation_id: str) -> None:
        asked = self._recorder.begin(self._name, Kind.DELETE, source="store", conversation_id=conversation_id)
        try:
            await self._store.delete(owner=OWNER, conversation_id=ConversationId(conversation_id))
        except PratiqueError as error:
            self._recorder.end(asked, result_of(error.code), error=error.code)
        else:
            self._recorder.end(asked, Result.OK)


async def _main(spec: StoreSpec, path: Path, name: str, seed: str) -> None:
    recorder = Recorder(path)
    before = load_history([path])
    lives = {operation.worker for operation in before}
    life = f"{name}.{len(lives)}"
    async with AsyncExitStack() as stack:
        store = await open_spec(spec, stack)
        clients = _Clients(store, recorder, life, random.Random(f"{seed}-{life}"))  # noqa: S311 - dice
        clients.unknown = [one for one in before if one.kind is Kind.SEND and one.result is Result.UNKNOWN]
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_CLIENTS):
                tasks.create_task(clients.run())


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=StoreSpec), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
