"""Limits that outlive the loss of their shared store: each replica counts for itself meanwhile, and says so.

A store that did not answer may have counted all the same. So what was asked of it in vain is settled there too; what it
could not be told is owed to it, and paid before anything else is asked of it. While it is away it is asked once a
second by one request: a store that hangs costs one deadline a second, not one per request.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from pratique.core.catalogue.access import LIMITS_DEGRADED
from pratique.core.events import get_logger
from pratique.orchestrator.access.limits.valkey import LimitsUnavailableError

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.access.limits.interface import Reservation
    from pratique.orchestrator.access.limits.memory import MemoryLimiter
    from pratique.orchestrator.access.limits.valkey import ValkeyLimiter
    from pratique.orchestrator.access.settings import LimitsSettings

__all__ = ["SharedLimiter"]

_logger = get_logger("access")
_Value = TypeVar("_Value")
_ASK_AGAIN_SECONDS: Final = 1.0
_MAX_KEPT: Final = 10_000
_PAID_AT_ONCE: Final = 16


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
        self._in_doubt: OrderedDict[Reservation, None] = OrderedDict()
        """What was reserved here and perhaps there."""
        self._owed: OrderedDict[Reservation, int | None] = OrderedDict()
        """What is still to be settled there, with the tokens used. Beyond the bound, it ends there by itself."""

    async def reserve(self, wanted: Reservation) -> bool:
        if self._local.is_reserved(wanted):
            return False  # taken here while the store was away
        if not self._may_ask():
            return await self._reserve_without(wanted)
        try:
            await self._pay()
            is_new = await self._shared.reserve(wanted)
        except LimitsUnavailableError as error:
            self._lost(error)
            return await self._reserve_in_doubt(wanted)
        self._found()
        return is_new

    async def settle(self, taken: Reservation, *, tokens: int | None) -> None:
        is_here = self._local.holds(taken)
        await self._local.settle(taken, tokens=tokens)
        if is_here and taken not in self._in_doubt:
            return
        self._in_doubt.pop(taken, None)
        _keep(self._owed, taken, tokens)
        if not self._may_ask():
            return
        try:
            await self._pay(taken)
        except LimitsUnavailableError as error:
            self._lost(error)
        else:
            self._found()

    async def _reserve_without(self, wanted: Reservation) -> bool:
        if self._on_loss == "refuse":
            raise LimitsUnavailableError("Limits cannot be counted now.", hint="Try again in a moment.")
        # "open": nothing is taken, so that nothing is there to settle.
        return self._on_loss == "local" and await self._local.reserve(wanted)

    async def _reserve_in_doubt(self, wanted: Reservation) -> bool:
        is_taken = False
        try:
            is_taken = await self._reserve_without(wanted)
        finally:
            if is_taken:
                _keep(self._in_doubt, wanted, None)
            else:
                _keep(self._owed, wanted, 0)
        return is_taken

    async def _pay(self, *first: Reservation) -> None:
        """Tell the store some of what it could not be told; the rest is for who asks next."""
        for taken in [*first, *islice(self._owed, _PAID_AT_ONCE)]:
            if taken in self._owed:
                tokens = self._owed[taken]
                await self._shared.settle(taken, tokens=tokens)
                self._owed.pop(taken, None)

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


def _keep(kept: OrderedDict[Reservation, _Value], one: Reservation, value: _Value) -> None:
    kept[one] = value
    if len(kept) > _MAX_KEPT:
        kept.popitem(last=False)
