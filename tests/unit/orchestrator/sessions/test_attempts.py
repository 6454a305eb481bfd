"""What follows from a failed attempt: a table."""

from __future__ import annotations

import pytest

from pratique.core.errors import PratiqueError
from pratique.orchestrator.protocol.events import FinishReason
from pratique.orchestrator.sessions.attempts import AttemptLimits, Attempts, GiveUp, Loss, TryAgain, loss_of
from pratique.orchestrator.upstream.interface import (
    TimeoutPhase,
    UpstreamGarbledError,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

pytestmark = pytest.mark.unit

GONE = UpstreamUnavailableError("gone")
CUT = UpstreamInterruptedError("cut")
LIMITS = AttemptLimits(model_wait_seconds=60, continue_wait_seconds=20, max_losses=2)


def late(phase: TimeoutPhase) -> UpstreamTimeoutError:
    return UpstreamTimeoutError("late", phase=phase)


@pytest.mark.parametrize(
    ("error", "loss"),
    [
        (GONE, Loss.UNAVAILABLE),
        (CUT, Loss.INTERRUPTED),
        (UpstreamGarbledError("?"), Loss.INTERRUPTED),
        (UpstreamRefusedError("no", refused_code="x"), Loss.REFUSED),
        (late(TimeoutPhase.FIRST_TOKEN), Loss.NO_FIRST_TOKEN),
        (late(TimeoutPhase.INTER_TOKEN), Loss.NO_NEXT_TOKEN),
        (late(TimeoutPhase.REPLY), Loss.REPLY_TOO_LONG),
    ],
)
def test_errors_are_sorted(error: PratiqueError, loss: Loss) -> None:
    assert loss_of(error) is loss


def test_waiting_backs_off_and_is_bounded_in_time_not_in_number() -> None:
    attempts = Attempts(LIMITS)
    delays = []
    for number in range(50):
        verdict = attempts.assess(GONE, has_text=False, now=float(number))
        assert isinstance(verdict, TryAgain)
        delays.append(verdict.delay_seconds)
    assert delays[:6] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert set(delays[6:]) == {1.0}
    verdict = attempts.assess(GONE, has_text=False, now=60.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.error.code == "model_unavailable"
    assert verdict.error.retry_after_seconds


def test_interrupted_reply_waits_less_long() -> None:
    attempts = Attempts(LIMITS)
    assert attempts.assess(CUT, has_text=True, now=0.0) == TryAgain(0.0)
    assert isinstance(attempts.assess(GONE, has_text=True, now=19.9), TryAgain)
    verdict = attempts.assess(GONE, has_text=True, now=20.0)
    assert isinstance(verdict, GiveUp)
    assert (verdict.finish_reason, verdict.error.code) == (FinishReason.ERROR, "interrupted")


def test_losses_are_bounded_in_number_however_fast() -> None:
    attempts = Attempts(LIMITS)
    for now in (0.0, 0.1):
        assert isinstance(attempts.assess(CUT, has_text=True, now=now), TryAgain)
        attempts.progressed()
    assert isinstance(attempts.assess(CUT, has_text=True, now=0.2), GiveUp)


def test_losses_of_earlier_producers_count() -> None:
    assert isinstance(Attempts(LIMITS, num_losses=2).assess(CUT, has_text=True, now=0.0), GiveUp)


def test_progress_begins_a_new_wait() -> None:
    attempts = Attempts(LIMITS)
    attempts.assess(CUT, has_text=True, now=0.0)
    attempts.progressed()
    assert attempts.assess(GONE, has_text=True, now=100.0) == TryAgain(0.05)


def test_second_loss_in_a_row_is_not_repeated_at_once() -> None:
    attempts = Attempts(LIMITS)
    assert attempts.assess(CUT, has_text=True, now=0.0) == TryAgain(0.0)
    assert attempts.assess(CUT, has_text=True, now=0.0) == TryAgain(0.1)


def test_server_that_dies_of_the_request_is_an_engine_error() -> None:
    verdict = Attempts(AttemptLimits(max_losses=0)).assess(CUT, has_text=False, now=0.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.error.code == "engine_error"


@pytest.mark.parametrize(
    ("error", "has_text", "reason", "code"),
    [
        (late(TimeoutPhase.FIRST_TOKEN), False, FinishReason.TIMEOUT, "first_token_timeout"),
        (late(TimeoutPhase.REPLY), True, FinishReason.TIMEOUT, "interrupted"),
        (
            UpstreamRefusedError("long", refused_code="context_length_exceeded"),
            False,
            FinishReason.ERROR,
            "context_length_exceeded",
        ),
        (UpstreamRefusedError("no", refused_code="invalid_request"), True, FinishReason.ERROR, "engine_error"),
    ],
)
def test_some_failures_end_it_at_once(error: PratiqueError, has_text: bool, reason: FinishReason, code: str) -> None:
    verdict = Attempts(LIMITS).assess(error, has_text=has_text, now=0.0)
    assert isinstance(verdict, GiveUp)
    assert (verdict.finish_reason, verdict.error.code) == (reason, code)


def test_continuation_without_a_first_token_is_tried_again_then_said_to_be_interrupted() -> None:
    attempts = Attempts(LIMITS)
    error = late(TimeoutPhase.FIRST_TOKEN)
    assert isinstance(attempts.assess(error, has_text=True, now=0.0), TryAgain)
    verdict = attempts.assess(error, has_text=True, now=20.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.error.code == "interrupted"


def test_silence_between_tokens_is_said_to_be_that() -> None:
    verdict = Attempts(AttemptLimits(max_losses=0)).assess(late(TimeoutPhase.INTER_TOKEN), has_text=True, now=0.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.error.code == "inter_token_timeout"
