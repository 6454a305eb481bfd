"""The stores under one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.core.clock import ManualClock
from pratique.core.ids import PrincipalId, SequentialIds
from pratique.orchestrator.conversations import ConversationStore, GenerationOptions
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pratique.core.ids import ConversationId
    from pratique.orchestrator.conversations import BegunTurn


class Talk:
    """A store and short words for what tests do with it."""

    def __init__(self, store: ConversationStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.ann = PrincipalId("usr_ann")
        self.bob = PrincipalId("usr_bob")
        self._count = 0

    async def say(
        self,
        text: str = "hello",
        *,
        to: ConversationId | None = None,
        by: PrincipalId | None = None,
        message: str | None = None,
    ) -> BegunTurn:
        self._count += 1
        return await self.store.begin_turn(
            owner=by or self.ann,
            conversation_id=to,
            client_message_id=message or f"message-{self._count:04}",
            text=text,
            options=GenerationOptions(max_tokens=64, temperature=0.5),
        )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
async def talk(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Talk]:
    store: ConversationStore
    if request.param == "memory":
        store = MemoryConversationStore(clock=clock, ids=SequentialIds())
    else:
        store = await SqliteConversationStore.open(tmp_path / "talk.db", clock=clock, ids=SequentialIds())
    yield Talk(store, clock)
    await store.aclose()
