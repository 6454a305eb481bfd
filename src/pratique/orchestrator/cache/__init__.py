"""The read path of conversations: process memory (L1), Valkey (L2), the store (L3); never the source of truth.

`interface` is what others see; `layered` is the read path; `valkey` and `memory` are shared caches (L2).
"""

from pratique.orchestrator.cache.interface import ConversationReader, SharedCache, SharedCacheError, SnapshotSource
from pratique.orchestrator.cache.layered import LayeredReader
from pratique.orchestrator.cache.settings import CacheSettings
from pratique.orchestrator.cache.uncached import UncachedReader
from pratique.orchestrator.cache.valkey import ValkeySharedCache

__all__ = [
    "CacheSettings",
    "ConversationReader",
    "LayeredReader",
    "SharedCache",
    "SharedCacheError",
    "SnapshotSource",
    "UncachedReader",
    "ValkeySharedCache",
]
