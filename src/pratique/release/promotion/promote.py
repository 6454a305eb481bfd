"""A promotion, from the gate over the canary to all traffic; and what is done about one that was interrupted.

1. What runs is asked of the target, whether a canary may begin of the gate.
2. The promotion begins in the ledger, where no other is open.
3. The new release runs beside the old one with a small share of the traffic and is looked at again and again. Never
   left out, but where nothing runs that it could be compared with.
4. Whatever is not a pass ends it at once: the old one gets all traffic, and everybody is told.
5. The result is signed and laid beside the artifact; the gate is asked anew, by the whole policy.
6. All traffic, its health check, and the ledger.

Whatever goes wrong before step 6 aborts. A process that is killed leaves an open promotion, which `resume` ends.
"""

from __future__ import annotations

import math

from pratique.core.errors import CallerError, PratiqueError
from pratique.fleet.targets.interface import Deployment
from pratique.release.predicates import Canary
from pratique.release.promotion.book import Book
from pratique.release.promotion.canary import Assessment, Look, Span, assess
from pratique.release.promotion.desk import Desk, Outcome, abort, confirm, now, shift, tell
from pratique.release.promotion.errors import (
    CanaryFailedError,
    CanaryInconclusiveError,
    PromotionAbortedError,
    RolloutLostError,
    RolloutOpenError,
)
from pratique.release.promotion.history import Act, CanaryResult, History, Rollout, Step, next_act
from pratique.release.promotion.interface import Event
from pratique.release.values import Subject, parse_digest

__all__ = ["promote", "resume"]


def promote(desk: Desk, subject: Subject, *, canary_seconds: float) -> Outcome:
    """Bring a release to all traffic of the desk's environment.

    Args:
        desk: whom to work with.
        subject: the release.
        canary_seconds: how long its canary runs; more than 0.

    Raises:
        CanaryFailedError: it is worse than what runs, which has all traffic again.
        CanaryInconclusiveError: it could not be told; the same.
        PromotionAbortedError: something else was in the way; the same.
        RolloutOpenError, RolloutLostError: somebody else is at it.
        RefusedError, EnvironmentFaultError: as the gate, the ledger and the target raise; the same.
    """
    if not canary_seconds > 0:
        raise CallerError(f"a canary takes some time, got {canary_seconds:g} s")
    began = desk.pace.monotonic()
    book = desk.book()
    running = desk.target.deployment()
    history = book.history()
    _refuse_stray_canary(desk, running, history)
    is_running = running.stable == subject.digest
    if is_running and history.open is None and history.releases[:1] and history.releases[0].digest == subject.digest:
        return Outcome("unchanged", subject, None, 0.0, ("it has all traffic already",))
    desk.gatekeeper.admit(subject)
    baseline = parse_digest(running.stable) if running.stable is not None else None
    rollout = book.begin(
        subject.digest,
        Step(
            step="started",
            action="promotion",
            target=desk.target.name,
            repository=subject.repository,
            baseline=baseline,
        ),
    )
    _prove(desk, book, rollout, canary_seconds=0.0 if is_running or baseline is None else canary_seconds)
    shift(desk, book, rollout)
    return Outcome("promoted", subject, rollout.id, desk.pace.monotonic() - began)


def resume(desk: Desk) -> Outcome:
    """End what another process left unfinished: abort it, or bring it to its end, by `next_act`.

    Raises:
        PromotionAbortedError: nothing is unfinished, or the target is not as the ledger has it.
        RefusedError, EnvironmentFaultError: as `promote`.
    """
    began = desk.pace.monotonic()
    book = desk.book()
    rollout = book.history().open
    if rollout is None:
        raise PromotionAbortedError(f"nothing is unfinished in '{desk.environment}'")
    book.take_over(rollout, "resumed")
    act = next_act(rollout, desk.target.deployment())
    if act is Act.ABORT:
        abort(desk, book, rollout, event="aborted", reason="it was interrupted before its canary's verdict")
        left = Subject(rollout.repository, rollout.baseline or rollout.digest)
        return Outcome("aborted", left, rollout.id, desk.pace.monotonic() - began)
    if act is Act.FAIL:
        why = f"'{rollout.target}' runs neither as before the promotion nor as after it"
        tell(desk, rollout, "failed", why)
        book.add("rollout", rollout, book.step(rollout, "failed", why))
        raise PromotionAbortedError(why, hint="See what runs; then promote what should, or roll back.")
    if act is Act.RELEASE:
        _prove(desk, book, rollout, canary_seconds=0.0)
        shift(desk, book, rollout)
    else:
        confirm(desk, book, rollout)
    subject = Subject(rollout.repository, rollout.digest)
    seconds = desk.pace.monotonic() - began
    if rollout.action == "rollback":
        return Outcome("rolled_back", subject, rollout.id, seconds)
    return Outcome("promoted", subject, rollout.id, seconds)


def _refuse_stray_canary(desk: Desk, running: Deployment, history: History) -> None:
    if history.open is None and running.candidate is not None:
        raise RolloutOpenError(
            f"'{desk.target.name}' runs a canary of {running.candidate} that the ledger does not know",
            hint="Whoever started it without pratique ends it.",
        )


def _prove(desk: Desk, book: Book, rollout: Rollout, *, canary_seconds: float) -> None:
    """Take steps 3 to 5; without a canary where its time is 0: by an earlier one's result, if any.

    Whatever goes wrong gives the old one all traffic.
    """
    subject = Subject(rollout.repository, rollout.digest)
    try:
        canary = rollout.canary
        if canary_seconds:
            canary = _run_canary(desk, book, rollout, seconds=canary_seconds)
            book.add("canary", rollout, CanaryResult(rollout=rollout.id, canary=canary))
        if canary is not None:
            desk.gatekeeper.attest(subject, canary)
        _ask_gate(desk, rollout)
    except RolloutLostError:
        raise  # whoever took it over has the target now
    except BaseException as error:  # a user's interrupt too: what nobody watches must not keep its traffic
        _give_up(desk, book, rollout, error)
        raise


def _ask_gate(desk: Desk, rollout: Rollout) -> None:
    subject = Subject(rollout.repository, rollout.digest)
    if rollout.action == "promotion":
        desk.gatekeeper.release(subject)
    else:
        desk.gatekeeper.trust(subject)


def _give_up(desk: Desk, book: Book, rollout: Rollout, error: BaseException) -> None:
    event: Event = "aborted"
    canary = None
    if isinstance(error, CanaryFailedError | CanaryInconclusiveError):
        event = "canary_failed" if isinstance(error, CanaryFailedError) else "canary_inconclusive"
        canary = error.canary
    reason = error.message if isinstance(error, PratiqueError) else f"it was interrupted: {type(error).__name__}"
    abort(desk, book, rollout, event=event, reason=reason, canary=canary)


def _run_canary(desk: Desk, book: Book, rollout: Rollout, *, seconds: float) -> Canary:
    """Run a canary and return its result, a pass.

    Raises:
        CanaryFailedError, CanaryInconclusiveError: it is none.
    """
    share, started_at = desk.settings.share, now(desk)
    desk.target.start_canary(rollout.digest, share=share)
    assessment = _watch(desk, book, rollout, seconds=seconds)
    baseline = rollout.baseline or rollout.digest
    canary = assessment.over(Span(baseline, share, started_at, now(desk)))
    what = f"the canary of {rollout.digest} beside {baseline}"
    why = "; ".join(assessment.reasons) or "no metric could be judged"
    if assessment.verdict == "fail":
        raise CanaryFailedError(f"{what} failed: {why}", canary=canary, hint="Mend the build; the old one runs on.")
    if assessment.verdict == "inconclusive":
        raise CanaryInconclusiveError(
            f"{what} says nothing: {why}", canary=canary, hint="Run it for longer, or under more traffic."
        )
    return canary


def _watch(desk: Desk, book: Book, rollout: Rollout, *, seconds: float) -> Assessment:
    """Look at a running canary until it fails or its time is up; return the last look's verdict."""
    began = desk.pace.monotonic()
    planned = max(1, math.ceil(seconds / desk.settings.look_seconds))
    number = 0
    while True:
        number += 1
        until = seconds if number == planned else number * desk.settings.look_seconds
        desk.pace.wait(until - (desk.pace.monotonic() - began))
        book.require_ours(rollout)
        running = desk.target.deployment()
        if (running.stable, running.candidate) != (rollout.baseline, rollout.digest):
            raise PromotionAbortedError(
                f"'{rollout.target}' runs {running.stable} and the canary {running.candidate},"
                f" expected {rollout.baseline} and {rollout.digest}: somebody changed it"
            )
        window = desk.target.measure(seconds=desk.pace.monotonic() - began)
        assessment = assess(window, desk.settings.canary, Look(number, planned))
        if assessment.verdict == "fail" or number == planned:
            return assessment
