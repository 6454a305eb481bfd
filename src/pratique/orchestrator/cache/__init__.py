"""The read path of conversations: process memory (L1), Valkey (L2), the store (L3); never the source of truth."""

from pratique.orchestrator.cache.interface import ConversationReader, SnapshotSource
from pratique.orchestrator.cache.uncached import UncachedReader

__all__ = ["ConversationReader", "SnapshotSource", "UncachedReader"]
