"""Old conversations go by themselves, in batches, and the caches are told; which store the settings mean."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from pratique.core.clock import ManualClock
from pratique.core.ids import ConversationId, PrincipalId, SequentialIds
from pratique.core.metrics import Metrics
from pratique.core.settings import SettingsError
from pratique.orchestrator.conversations import GenerationOptions, Outcome
from pratique.orchestrator.conversations.build import open_store, purging_old
from pratique.orchestrator.conversations.memory import MemoryConversationStore
from pratique.orchestrator.conversations.retention import Purger
from pratique.orchestrator.conversations.settings import StoreSettings
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore
from pratique.orchestrator.protocol.events import FinishReason

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.orchestrator.conversations import ConversationStore

pytestmark = pytest.mark.unit

ANN = PrincipalId("usr_ann")
DAY = 86_400.0


async def _say(store: MemoryConversationStore, count: int) -> None:
    for number in range(count):
        begun = await store.begin_turn(
            owner=ANN,
            conversation_id=None,
            client_message_id=f"message-{number}",
            text="x",
            options=GenerationOptions(),
        )
        await store.finish(begun.generation_id, epoch=1, outcome=Outcome(text="y", finish_reason=FinishReason.STOP))


class Told:
    def __init__(self) -> None:
        self.names: list[ConversationId] = []

    async def deleted(self, name: ConversationId) -> None:
        self.names.append(name)


async def test_everything_old_goes_in_batches_and_caches_are_told() -> None:
    clock, told = ManualClock(), Told()
    store = MemoryConversationStore(clock=clock, ids=SequentialIds())
    await _say(store, 120)
    purger = Purger(store, retention_seconds=DAY, interval_seconds=60, deleted=told.deleted, clock=clock)
    await clock.advance(DAY + 1)
    purging = asyncio.ensure_future(purger.purge())
    await clock.advance(1)
    assert await purging == 120
    assert len(set(told.names)) == 120
    assert await purger.purge() == 0


async def test_it_is_done_again_and_again_also_after_the_store_was_down() -> None:
    clock, told = ManualClock(), Told()
    store = MemoryConversationStore(clock=clock, ids=SequentialIds())
    await _say(store, 2)
    purger = Purger(store, retention_seconds=DAY, interval_seconds=60, deleted=told.deleted, clock=clock)
    async with purger.running():
        await clock.advance(DAY - 61)
        assert told.names == []
        store.unavailable = True
        await clock.advance(120)
        assert told.names == []
        store.unavailable = False
        await clock.advance(60)
        assert len(told.names) == 2


async def _opened(settings: StoreSettings, database: Path | None) -> ConversationStore:
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        return await open_store(settings, stack, database=database, clock=clock, ids=SequentialIds(), metrics=Metrics())


async def test_the_store_is_what_is_named_or_else_the_file_or_else_memory(tmp_path: Path) -> None:
    file = tmp_path / "talk.db"
    assert isinstance(await _opened(StoreSettings(), None), MemoryConversationStore)
    assert isinstance(await _opened(StoreSettings(), file), SqliteConversationStore)
    assert isinstance(await _opened(StoreSettings(backend="memory"), file), MemoryConversationStore)
    with pytest.raises(SettingsError, match="needs a file"):
        await _opened(StoreSettings(backend="sqlite"), None)


@pytest.mark.parametrize(
    ("settings", "num_gone"),
    [
        (StoreSettings(), 0),
        (StoreSettings(retention_days=1), 2),
        (StoreSettings(backend="dynamodb", retention_days=1), 0),
    ],
)
async def test_nothing_is_purged_unless_asked_for_and_never_in_dynamodb(settings: StoreSettings, num_gone: int) -> None:
    clock, told = ManualClock(), Told()
    store = MemoryConversationStore(clock=clock, ids=SequentialIds())
    await _say(store, 2)
    async with purging_old(settings, store, deleted=told.deleted, clock=clock):
        await clock.advance(DAY + settings.purge_seconds)
    assert len(told.names) == num_gone
