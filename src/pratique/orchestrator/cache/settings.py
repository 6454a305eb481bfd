"""Bounds and times of the read path."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["CacheSettings"]

_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=1)]


class CacheSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each entry's life is drawn between the two bounds, so that entries made together do not end together."""

    l1_min_seconds: _Positive = 15.0
    l1_max_seconds: _Positive = 25.0
    l1_deaf_seconds: _Positive = 1.0
    """Life of an L1 entry made while no invalidation can be heard."""
    l1_entries: _Count = 10_000
    l1_bytes: _Count = 64 * 1024 * 1024
    l2_min_seconds: _Positive = 300.0
    l2_max_seconds: _Positive = 600.0
    l2_running_seconds: _Positive = 15.0
    """Life in L2 of a snapshot with a running generation: what its end did to it is soon told, or its teller died."""
    l2_deadline_seconds: _Positive = 0.25
    """For one call to Valkey."""
    l2_connections: _Count = 16
    l2_batch: _Count = 64
    """Reads of L2 that share one round trip at most."""
    l2_failures: _Count = 3
    """In a row, until reads stop asking L2."""
    l2_cool_down_seconds: _Positive = 0.5
    """First pause before L2 is asked again; doubles to the maximum."""
    l2_cool_down_max_seconds: _Positive = 8.0
    l3_concurrency: _Count = 16
    l3_wait_seconds: _Positive = 10.0
    """How long a read waits for its turn at the store."""
    negative_seconds: _Positive = 2.0
    """How long "there is none" is believed."""
    negative_entries: _Count = 1_000
    repairs: _Count = 10_000
    """Conversations remembered as written while L2 was away; beyond that, L2 is emptied when it is back."""
    ping_seconds: _Positive = 1.0
    """Silence on the invalidation channel after which the server is asked whether it lives."""
    reconnect_min_seconds: _Positive = 0.05
    reconnect_max_seconds: _Positive = 2.0
