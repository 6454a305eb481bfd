"""A rollback: back to the release that had all traffic before, by its digest, after making sure that it may.

Which one that is, the ledger says; nobody says "latest". Releases that were left by a rollback are not gone back to,
and one that is revoked, or no longer signed by whom the policy names, is passed over for the one before it, with the
reason. Where it cannot be found out whether one may be trusted, nothing is deployed.

A promotion that is under way is ended first: where its canary still runs, that is the whole rollback.
"""

from __future__ import annotations

from pratique.core.errors import RefusedError
from pratique.fleet.targets.interface import Deployment
from pratique.release.promotion.book import Book
from pratique.release.promotion.desk import Desk, Outcome, abort, shift, tell
from pratique.release.promotion.errors import NothingBeforeError
from pratique.release.promotion.history import Past, Rollout, Step
from pratique.release.values import Digest, Subject, parse_digest

__all__ = ["find_previous", "roll_back"]


def roll_back(desk: Desk, *, reason: str) -> Outcome:
    """Give the release before all traffic.

    Args:
        desk: whom to work with.
        reason: why, for the ledger and the alert.

    Raises:
        NothingBeforeError: there is none that may have it.
        ReleaseUnhealthyError: it has all traffic, and is not healthy.
        RefusedError, EnvironmentFaultError: as the gate, the ledger and the target raise.
    """
    began = desk.pace.monotonic()
    book = desk.book()
    running = desk.target.deployment()
    rollout = book.history().open
    if rollout is not None:
        book.take_over(rollout, f"rolled back: {reason}")
        if running.stable != rollout.digest and rollout.action == "promotion":
            abort(desk, book, rollout, event="aborted", reason=f"rolled back during its canary: {reason}")
            left = Subject(rollout.repository, rollout.baseline or rollout.digest)
            return Outcome("aborted", left, rollout.id, desk.pace.monotonic() - began)
        book.add("rollout", rollout, book.step(rollout, "aborted", f"rolled back: {reason}"))
    past, notes = find_previous(desk, book, running)
    begun = _begin(desk, book, past, running, reason)
    shift(desk, book, begun)
    tell(desk, begun, "rolled_back", f"back to {past.digest}: {reason}")
    subject = Subject(past.repository, past.digest)
    return Outcome("rolled_back", subject, begun.id, desk.pace.monotonic() - began, notes)


def find_previous(desk: Desk, book: Book, running: Deployment) -> tuple[Past, tuple[str, ...]]:
    """Return the newest release before what runs that may be gone back to, and why newer ones may not.

    Raises:
        NothingBeforeError: there is none.
        EnvironmentFaultError: it could not be found out.
    """
    notes = []
    for past in book.history().before(running.stable):
        try:
            desk.gatekeeper.trust(Subject(past.repository, past.digest))
        except RefusedError as error:
            notes.append(f"{past.digest} is passed over: {error.message}")
        else:
            return past, tuple(notes)
    why = "; ".join(notes) or "the ledger has no release before it"
    raise NothingBeforeError(
        f"'{desk.environment}' runs {running.stable}, and there is nothing to go back to: {why}",
        hint="Promote a release that passes the gate.",
    )


def _begin(desk: Desk, book: Book, past: Past, running: Deployment, reason: str) -> Rollout:
    step = Step(
        step="started",
        action="rollback",
        target=desk.target.name,
        repository=past.repository,
        baseline=_digest(running.stable),
        reason=reason,
    )
    return book.begin(past.digest, step)


def _digest(text: str | None) -> Digest | None:
    return parse_digest(text) if text is not None else None
