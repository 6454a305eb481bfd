"""The guard around L2, where loads share a round trip."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.catalogue.cache import CACHE_L2_ERRORS
from pratique.core.clock import ManualClock
from pratique.core.ids import ConversationId
from pratique.core.metrics import Metrics
from pratique.orchestrator.cache import CacheSettings, SharedCacheError
from pratique.orchestrator.cache._batches import Batches
from pratique.orchestrator.cache._guard import GuardedCache
from pratique.orchestrator.cache._instruments import Instruments

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.unit


class SlowCache:
    """Loads of one turn share a round trip, as with Valkey; each round trip fails."""

    def __init__(self) -> None:
        self.num_round_trips = 0
        self.load = Batches(self._load_all, limit=100).load

    async def _load_all(self, keys: Sequence[ConversationId]) -> list[None]:
        self.num_round_trips += 1
        raise SharedCacheError(f"Too slow for {len(keys)}.")


async def test_a_round_trip_that_failed_for_many_counts_once() -> None:
    metrics, cache = Metrics(), SlowCache()
    shared: Any = cache
    guard = GuardedCache(
        shared,
        settings=CacheSettings(l2_failures=3),
        clock=ManualClock(),
        instruments=Instruments(metrics, size=lambda: (0, 0)),
    )
    for number in range(1, 6):
        found = await asyncio.gather(*(guard.load(ConversationId(f"conv_{key}")) for key in range(8)))
        assert found == [None] * 8
        # Three in a row open the breaker; from then on nobody asks.
        assert cache.num_round_trips == min(number, 3)
        assert metrics.registry.get_sample_value(f"{CACHE_L2_ERRORS.name}_total") == cache.num_round_trips
