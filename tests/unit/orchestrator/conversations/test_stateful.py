"""Any sequence of calls has the same answers from every store, and leaves the invariants whole."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pratique.core.clock import ManualClock
from pratique.core.errors import PratiqueError
from pratique.core.ids import ConversationId, PrincipalId, SequentialIds
from pratique.orchestrator.conversations import (
    BegunTurn,
    ConversationStore,
    ExportedConversation,
    GenerationOptions,
    Outcome,
    Page,
)
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.unit

OWNERS = st.sampled_from([PrincipalId("usr_ann"), PrincipalId("usr_bob")])
MESSAGES = st.sampled_from([f"message-{n}" for n in range(6)])
TEXTS = st.sampled_from(["one", "two", "x" * 80])
EPOCHS = st.integers(0, 4)
OUTCOMES = st.builds(
    Outcome,
    text=st.sampled_from(["", "reply"]),
    finish_reason=st.sampled_from(FinishReason),
    model=st.sampled_from(["", "small"]),
)


class Stores(RuleBasedStateMachine):
    """Drives the stores in step and compares what they say."""

    begun = Bundle("begun")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.path = Path(self.folder.name, "talk.db")
        sqlite = SqliteConversationStore.open(self.path, clock=self.clock, ids=SequentialIds())
        self.stores: list[ConversationStore] = [
            MemoryConversationStore(clock=self.clock, ids=SequentialIds()),
            self.runner.run(sqlite),
        ]
        self.versions: dict[ConversationId, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            for store in self.stores[1:]:
                self.runner.run(store.aclose())
            self.runner.close()
            self.folder.cleanup()

    def both(self, call: Callable[[ConversationStore], Awaitable[Any]]) -> Any:
        answers = [self.runner.run(_answer(call, store)) for store in self.stores]
        for answer in answers[1:]:
            assert answer == answers[0]
        return answers[0][1]

    @rule(target=begun, owner=OWNERS, message=MESSAGES, text=TEXTS)
    def begin(self, owner: PrincipalId, message: str, text: str) -> Any:
        return self._begin(owner, None, message, text)

    @rule(target=begun, before=begun, owner=OWNERS, message=MESSAGES, text=TEXTS)
    def go_on(self, before: BegunTurn, owner: PrincipalId, message: str, text: str) -> Any:
        return self._begin(owner, before.conversation_id, message, text)

    @rule(target=begun, before=begun, owner=OWNERS, message=MESSAGES)
    def retry(self, before: BegunTurn, owner: PrincipalId, message: str) -> Any:
        begun = self.both(
            lambda store: store.begin_retry(
                owner=owner, conversation_id=before.conversation_id, client_message_id=message
            )
        )
        return begun if isinstance(begun, BegunTurn) else multiple()

    @rule(before=begun, epoch=EPOCHS, holder=st.sampled_from(["a", "b"]))
    def claim(self, before: BegunTurn, epoch: int, holder: str) -> None:
        self.both(lambda store: store.claim(before.generation_id, epoch=epoch, holder=holder))

    @rule(before=begun, epoch=EPOCHS, outcome=OUTCOMES)
    def finish(self, before: BegunTurn, epoch: int, outcome: Outcome) -> None:
        self.both(lambda store: store.finish(before.generation_id, epoch=epoch, outcome=outcome))

    @rule(before=begun, owner=OWNERS, title=st.sampled_from(["", "another title"]))
    def rename(self, before: BegunTurn, owner: PrincipalId, title: str) -> None:
        self.both(lambda store: store.rename(owner=owner, conversation_id=before.conversation_id, title=title))

    @rule(before=consumes(begun), owner=OWNERS)
    def delete(self, before: BegunTurn, owner: PrincipalId) -> None:
        self.both(lambda store: store.delete(owner=owner, conversation_id=before.conversation_id))
        self.versions.pop(before.conversation_id, None)

    @rule(before=begun)
    def load(self, before: BegunTurn) -> None:
        self.both(lambda store: store.load_generation(before.generation_id))
        snapshot = self.both(lambda store: store.load_conversation(before.conversation_id))
        if isinstance(snapshot, tuple):
            return
        assert snapshot.version >= self.versions.get(before.conversation_id, 0)
        self.versions[before.conversation_id] = snapshot.version

    @rule(owner=OWNERS, limit=st.integers(1, 3), older=st.integers(0, 3))
    def look(self, owner: PrincipalId, limit: int, older: int) -> None:
        self.both(lambda store: store.running_generations(older_than_seconds=older))
        before: str | None = None
        seen: list[str] = []
        while True:
            page = self.both(partial(_page, owner=owner, limit=limit, before=before))
            seen += [one.conversation_id for one in page.conversations]
            before = page.next
            if before is None:
                break
        assert len(seen) == len(set(seen))

    @rule(owner=OWNERS)
    def export(self, owner: PrincipalId) -> None:
        self.both(partial(_export, owner=owner))

    @rule(owner=OWNERS, limit=st.sampled_from([1, 100]))
    def erase(self, owner: PrincipalId, limit: int) -> None:
        self.both(lambda store: store.erase(owner=owner, limit=limit))

    @rule(older=st.integers(0, 3))
    def purge(self, older: int) -> None:
        self.both(partial(_purge, unchanged_since=self.clock.epoch() - older))

    @rule(seconds=st.integers(0, 2))
    def wait(self, seconds: int) -> None:
        self.runner.run(self.clock.advance(seconds))

    @invariant()
    def a_generation_has_at_most_one_reply(self) -> None:
        if not hasattr(self, "path"):
            return
        with sqlite3.connect(self.path) as connection:
            rows = connection.execute("SELECT generation_id FROM turns WHERE role = 'assistant'").fetchall()
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        connection.close()
        assert max(Counter(rows).values(), default=1) == 1
        assert broken == []

    def _begin(self, owner: PrincipalId, to: ConversationId | None, message: str, text: str) -> Any:
        begun = self.both(
            lambda store: store.begin_turn(
                owner=owner,
                conversation_id=to,
                client_message_id=message,
                text=text,
                options=GenerationOptions(max_tokens=len(text)),
            )
        )
        return begun if isinstance(begun, BegunTurn) else multiple()


async def _page(store: ConversationStore, *, owner: PrincipalId, limit: int, before: str | None) -> Page:
    return await store.list_conversations(owner=owner, limit=limit, before=before)


async def _export(store: ConversationStore, *, owner: PrincipalId) -> list[ExportedConversation]:
    return [one async for one in store.export(owner=owner)]


async def _purge(store: ConversationStore, *, unchanged_since: float) -> list[ConversationId]:
    return sorted(await store.purge(unchanged_since=unchanged_since))


async def _answer(call: Callable[[ConversationStore], Awaitable[Any]], store: ConversationStore) -> tuple[str, Any]:
    try:
        return "answered", await call(store)
    except PratiqueError as error:
        return "refused", (type(error), str(error))


TestStores = Stores.TestCase
TestStores.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
