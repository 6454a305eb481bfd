"""Finds replies that nobody makes any more, and has them taken over here.

Two ways to be orphaned: the lease in the log expired (its producer died or was cut off), or the store says that a reply
runs and the log has never heard of it (its replica died in between, or the log's server came back empty). The second is
acted on only after a grace, because a living producer needs a moment to write a lost log anew.

Every replica looks; who gets the lease decides who makes the reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pratique.core.events import get_logger
from pratique.orchestrator.conversations.errors import GenerationNotFoundError, StoreUnavailableError
from pratique.orchestrator.sessions.log.interface import LogUnavailableError

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.core.ids import GenerationId
    from pratique.orchestrator.conversations.interface import ConversationStore, GenerationRecord
    from pratique.orchestrator.sessions.log.interface import GenerationLog

__all__ = ["Adopter", "Janitor", "JanitorSettings"]

_logger = get_logger("sessions")
_MAX_PER_SCAN = 64


class Adopter(Protocol):
    """What takes a reply over: the sessions of this replica."""

    def is_made_here(self, generation_id: GenerationId) -> bool: ...

    def has_room(self) -> bool: ...

    def adopt(self, record: GenerationRecord, *, found_by: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class JanitorSettings:
    """In seconds."""

    scan_seconds: float = 0.2
    store_scan_seconds: float = 1.0
    grace_seconds: float = 2.4
    """How long a reply that was begun may be absent from the log before that means anything."""
    unbegun_seconds: float = 1.2
    """How old a reply that nobody began must be."""


class Janitor:
    """Scans until cancelled."""

    def __init__(
        self, log: GenerationLog, store: ConversationStore, adopter: Adopter, *, clock: Clock, settings: JanitorSettings
    ) -> None:
        self._log = log
        self._store = store
        self._adopter = adopter
        self._clock = clock
        self._settings = settings
        self._absent_since: dict[GenerationId, float] = {}
        self._store_scan_at = clock.monotonic()

    async def run(self) -> None:
        while True:
            await self._clock.sleep(self._settings.scan_seconds)
            await self.scan()

    async def scan(self) -> None:
        """Look once. What cannot be known now is looked at again next time."""
        if not self._adopter.has_room():
            return
        try:
            await self._scan_leases()
            if self._clock.monotonic() >= self._store_scan_at:
                self._store_scan_at = self._clock.monotonic() + self._settings.store_scan_seconds
                await self._scan_store()
        except (LogUnavailableError, StoreUnavailableError) as error:
            # Without the log nobody can know who lives: absences count anew from when it is back.
            self._absent_since.clear()
            _logger.debug("takeover_scan_failed", error=error.message)

    async def _scan_leases(self) -> None:
        for generation_id in await self._log.expired(limit=_MAX_PER_SCAN):
            if self._adopter.is_made_here(generation_id):
                continue
            try:
                record = await self._store.load_generation(generation_id)
            except GenerationNotFoundError:
                await self._log.forget(generation_id)
                continue
            self._adopt(record, found_by="lease")

    async def _scan_store(self) -> None:
        running = await self._store.running_generations(older_than_seconds=self._settings.unbegun_seconds)
        others = {
            record.generation_id: record for record in running if not self._adopter.is_made_here(record.generation_id)
        }
        missing = await self._log.missing(list(others)) if others else ()
        now = self._clock.monotonic()
        self._absent_since = {name: self._absent_since.get(name, now) for name in missing}
        for generation_id, since in self._absent_since.items():
            record = others[generation_id]
            if record.epoch == 0 or now - since >= self._settings.grace_seconds:
                self._adopt(record, found_by="store")

    def _adopt(self, record: GenerationRecord, *, found_by: str) -> None:
        if self._adopter.has_room():
            self._adopter.adopt(record, found_by=found_by)
