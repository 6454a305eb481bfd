"""Limits that outlive the loss of their shared store: each replica counts for itself meanwhile, and says so.

What was reserved in one place is settled in the same one. While the store is away it is asked once a second by one
request, so a store that hangs costs one deadline a second, not one per request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pratique.core.catalogue.access import LIMITS_DEGRADED
from pratique.core.events import get_logger
from pratique.orchestrator.access.limits.valkey import LimitsUnavailableError

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.access.limits.memory import MemoryLimiter
    from pratique.orchestrator.access.limits.valkey import ValkeyLimiter
    from pratique.orchestrator.access.principal import Principal
    from pratique.orchestrator.access.settings import LimitsSettings

__all__ = ["SharedLimiter"]

_logger = get_logger("access")
_ASK_AGAIN_SECONDS: Final = 1.0


class SharedLimiter:
    """A `Limiter` over a shared one and a local one."""

    def __init__(
        self,
        shared: ValkeyLimiter,
        local: MemoryLimiter,
        settings: LimitsSettings,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._shared = shared
        self._local = local
        self._on_loss = settings.on_store_loss
        self._clock = clock
        self._degraded = metrics.gauge(LIMITS_DEGRADED)
        self._ask_at: float | None = None

    async def reserve(self, principal: Principal, reservation_id: str, *, tokens: int) -> bool:
        if self._local.holds(principal, reservation_id):
            return False  # taken here while the store was away
        if self._may_ask():
            try:
                is_new = await self._shared.reserve(principal, reservation_id, tokens=tokens)
            except LimitsUnavailableError as error:
                self._lost(error)
            else:
                self._found()
                return is_new
        if self._on_loss == "refuse":
            raise LimitsUnavailableError("Limits cannot be counted now.", hint="Try again in a moment.")
        # "open": nothing is taken, so that nothing is there to settle.
        return self._on_loss == "local" and await self._local.reserve(principal, reservation_id, tokens=tokens)

    async def settle(self, principal: Principal, reservation_id: str, *, tokens: int | None) -> None:
        if self._local.holds(principal, reservation_id):
            await self._local.settle(principal, reservation_id, tokens=tokens)
            return
        if not self._may_ask():
            return  # it ends by itself, and what it took stays taken
        try:
            await self._shared.settle(principal, reservation_id, tokens=tokens)
        except LimitsUnavailableError as error:
            self._lost(error)

    def _may_ask(self) -> bool:
        now = self._clock.monotonic()
        if self._ask_at is None:
            return True
        if now < self._ask_at:
            return False
        self._ask_at = now + _ASK_AGAIN_SECONDS
        return True

    def _lost(self, error: LimitsUnavailableError) -> None:
        if self._ask_at is None:
            _logger.warning("limits_store_lost", on_store_loss=self._on_loss, error=error.message)
        self._ask_at = self._clock.monotonic() + _ASK_AGAIN_SECONDS
        self._degraded.set(1)

    def _found(self) -> None:
        if self._ask_at is not None:
            _logger.info("limits_store_found")
        self._ask_at = None
        self._degraded.set(0)
