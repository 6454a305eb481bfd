"""The moves that promotions and rollbacks are made of. Each leaves the ledger and the target agreed.

What gives traffic to the new one is written down before; what takes it away is done first and written down after.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, NoReturn

from pratique.core.errors import PratiqueError
from pratique.fleet.targets.interface import Health, Target
from pratique.release.ledger.interface import Ledger
from pratique.release.predicates import Canary, MetricVerdict
from pratique.release.promotion.alerts import send_to_all
from pratique.release.promotion.book import Book
from pratique.release.promotion.errors import PromotionAbortedError, ReleaseUnhealthyError
from pratique.release.promotion.history import CanaryResult, Released, Rollout
from pratique.release.promotion.interface import Alert, AlertSink, Event, Gatekeeper, Pace
from pratique.release.promotion.settings import PromotionSettings
from pratique.release.values import Digest, Subject

__all__ = ["Desk", "Outcome", "abort", "confirm", "now", "shift", "tell"]

_HEALTH_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Desk:
    """Whom a rollout works with, where to, and in whose name."""

    environment: str
    actor: str
    target: Target
    ledger: Ledger
    gatekeeper: Gatekeeper
    alerts: tuple[AlertSink, ...]
    pace: Pace
    settings: PromotionSettings

    def book(self) -> Book:
        """Return the environment's pages of the ledger."""
        return Book(self.ledger, self.environment, self.actor)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rollout ended."""

    result: Literal["promoted", "rolled_back", "aborted", "unchanged"]
    subject: Subject
    """What has all traffic now."""
    rollout: Digest | None
    """None where nothing had to be done."""
    seconds: float
    notes: tuple[str, ...] = ()


def now(desk: Desk) -> datetime:
    """Return the time, for people."""
    return datetime.fromtimestamp(desk.pace.epoch(), UTC)


def tell(desk: Desk, rollout: Rollout, event: Event, summary: str, *, metrics: tuple[MetricVerdict, ...] = ()) -> None:
    """Alert everybody."""
    alert = Alert(
        event=event,
        rollout=rollout.id,
        environment=desk.environment,
        target=rollout.target,
        repository=rollout.repository,
        digest=rollout.digest,
        baseline=rollout.baseline,
        at=now(desk),
        summary=summary,
        metrics=metrics,
    )
    send_to_all(desk.alerts, alert)


def abort(
    desk: Desk,
    book: Book,
    rollout: Rollout,
    *,
    event: Event,
    reason: str,
    canary: Canary | None = None,
) -> None:
    """Give the old release all traffic, tell everybody, and record it, with the canary's result where there is one.

    Raises:
        TargetError: the target does not do it; everybody was told, and the rollout stays open.
    """
    metrics = canary.metrics if canary is not None else ()
    try:
        desk.target.abort_canary()
    except PratiqueError as error:
        tell(desk, rollout, "failed", f"{reason}; and the canary cannot be aborted: {error.message}", metrics=metrics)
        raise
    tell(desk, rollout, event, reason, metrics=metrics)
    if canary is not None:
        book.add("canary", rollout, CanaryResult(rollout=rollout.id, canary=canary))
    book.add("rollout", rollout, book.step(rollout, "aborted", reason))


def shift(desk: Desk, book: Book, rollout: Rollout) -> None:
    """Give a release that may have it all traffic, see that it is healthy, and record it.

    Raises:
        PromotionAbortedError: it is not, and the one before has all traffic again.
        ReleaseUnhealthyError: it is not, and there is nothing to give the traffic to, or it was a rollback.
    """
    book.add("rollout", rollout, book.step(rollout, "shifting"))
    try:
        desk.target.promote(rollout.digest)
    except PratiqueError as error:
        _leave(desk, book, rollout, f"the target did not give it all traffic: {error.message}")
    confirm(desk, book, rollout)


def confirm(desk: Desk, book: Book, rollout: Rollout) -> None:
    """See that a release that has all traffic is healthy, and record it.

    Raises:
        PromotionAbortedError, ReleaseUnhealthyError: as `shift`.
    """
    health = _health(desk, rollout.digest)
    if not health.is_healthy:
        what = f"{health.num_ready} of {health.num_wanted} are ready: {health.reason}"
        _leave(desk, book, rollout, f"it is not healthy after {desk.settings.health_seconds:g} s: {what}")
    released = Released(
        rollout=rollout.id, target=rollout.target, repository=rollout.repository, baseline=rollout.baseline
    )
    book.add(rollout.action, rollout, released)


def _health(desk: Desk, digest: Digest) -> Health:
    deadline = desk.pace.monotonic() + desk.settings.health_seconds
    while True:
        try:
            health = desk.target.health(digest)
        except PratiqueError as error:
            health = Health(is_healthy=False, num_ready=0, num_wanted=1, reason=error.message)
        if health.is_healthy or desk.pace.monotonic() >= deadline:
            return health
        desk.pace.wait(_HEALTH_PAUSE_SECONDS)


def _leave(desk: Desk, book: Book, rollout: Rollout, why: str) -> NoReturn:
    """Go from a release that should not have the traffic to the one before; of a rollback, stay and call for help."""
    if rollout.action == "promotion" and rollout.baseline is not None:
        try:
            desk.target.promote(rollout.baseline)
        except PratiqueError as error:
            tell(desk, rollout, "failed", f"{why}; and the one before does not come back: {error.message}")
            raise
        tell(desk, rollout, "unhealthy", f"{why}; the one before has all traffic again")
        book.add("rollout", rollout, book.step(rollout, "aborted", why))
        raise PromotionAbortedError(f"{rollout.digest}: {why}", hint="The release before has all traffic again.")
    tell(desk, rollout, "unhealthy", why)
    book.add("rollout", rollout, book.step(rollout, "failed", why))
    raise ReleaseUnhealthyError(f"{rollout.digest}: {why}", hint="See why, or go further back: pratique rollback.")
