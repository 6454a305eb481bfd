"""What follows from a failed attempt: a table."""

from __future__ import annotations

import pytest

from pratique.core.errors import PratiqueError
from pratique.orchestrator.protocol.events import FinishReason
from pratique.orchestrator.sessions.attempts import Attempt, AttemptLimits, Attempts, GiveUp, Loss, TryAgain, loss_of
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


class TestDeadline:
    """10 s to the first token, from the first attempt that servers took."""

    @pytest.fixture
    def attempts(self) -> Attempts:
        return Attempts(AttemptLimits(model_wait_seconds=60, answer_seconds=10, quick_refusal_seconds=2, max_losses=6))

    def fail(self, attempts: Attempts, error: PratiqueError, *, at: float, after: float) -> TryAgain | GiveUp:
        attempts.begin(has_text=False, now=at)
        return attempts.assess(error, has_text=False, now=at + after)

    def test_quick_refusals_leave_it_alone(self, attempts: Attempts) -> None:
        for now in range(0, 59, 2):
            assert isinstance(self.fail(attempts, GONE, at=now, after=1.9), TryAgain)
        assert attempts.begin(has_text=False, now=59) == Attempt(number=31, is_retry=False, first_text_seconds=9.8)

    def test_slow_refusal_starts_it_at_the_attempts_begin(self, attempts: Attempts) -> None:
        self.fail(attempts, GONE, at=0, after=1)
        self.fail(attempts, GONE, at=30, after=4.8)
        attempt = attempts.begin(has_text=False, now=34.85)
        assert attempt.is_retry
        assert attempt.first_text_seconds == pytest.approx(4.95)
        verdict = attempts.assess(GONE, has_text=False, now=39.65)
        assert isinstance(verdict, GiveUp)
        assert (verdict.error.code, verdict.error.retry_after_seconds) == ("model_unavailable", 2.0)

    @pytest.mark.parametrize("error", [CUT, late(TimeoutPhase.FIRST_TOKEN), UpstreamGarbledError("?")])
    def test_loss_of_any_other_kind_starts_it_however_quick(self, attempts: Attempts, error: PratiqueError) -> None:
        assert self.fail(attempts, error, at=0, after=0.1) == TryAgain(0.0)
        assert attempts.begin(has_text=False, now=0.1).is_retry

    def test_busy_servers_start_it(self, attempts: Attempts) -> None:
        self.fail(attempts, UpstreamUnavailableError("full", is_serving=True), at=0, after=0.1)
        assert attempts.begin(has_text=False, now=0.2).is_retry

    def test_second_attempt_fits_after_one_that_hangs_and_then_it_is_said(self, attempts: Attempts) -> None:
        error = late(TimeoutPhase.FIRST_TOKEN)
        assert self.fail(attempts, error, at=0, after=6) == TryAgain(0.0)
        verdict = self.fail(attempts, error, at=6, after=3.8)
        assert isinstance(verdict, GiveUp)
        assert (verdict.finish_reason, verdict.error.code) == (FinishReason.TIMEOUT, "first_token_timeout")

    def test_lost_server_with_no_other_is_waited_for_again(self, attempts: Attempts) -> None:
        self.fail(attempts, CUT, at=0, after=1)
        assert isinstance(self.fail(attempts, GONE, at=2, after=0.01), TryAgain)
        assert not attempts.begin(has_text=False, now=20).is_retry
        assert isinstance(self.fail(attempts, GONE, at=20, after=0.01), TryAgain)

    def test_quick_refusals_do_not_stop_it_once_servers_were_slow(self, attempts: Attempts) -> None:
        self.fail(attempts, GONE, at=0, after=4.8)
        self.fail(attempts, GONE, at=5, after=0.01)
        assert attempts.begin(has_text=False, now=6).is_retry
        assert isinstance(self.fail(attempts, GONE, at=9.4, after=0.01), GiveUp)

    def test_attempt_that_has_no_time_left_is_not_begun(self, attempts: Attempts) -> None:
        assert isinstance(self.fail(attempts, CUT, at=0, after=9.3), TryAgain)
        attempts.progressed()
        assert isinstance(self.fail(attempts, CUT, at=20, after=9.4), GiveUp)

    def test_text_ends_it(self, attempts: Attempts) -> None:
        self.fail(attempts, CUT, at=0, after=1)
        attempts.progressed()
        attempts.begin(has_text=True, now=100)
        assert attempts.assess(CUT, has_text=True, now=100) == TryAgain(0.0)
        assert not attempts.begin(has_text=True, now=100).is_retry


class TestRetryAfter:
    def test_is_honoured_to_a_bound(self) -> None:
        for said, waited in ((0.5, 0.5), (3.0, 3.0), (60.0, 5.0)):
            error = UpstreamUnavailableError("loading", retry_after_seconds=said)
            assert Attempts(LIMITS).assess(error, has_text=False, now=0.0) == TryAgain(0.05, waited)

    def test_jitter_is_never_before_it(self) -> None:
        verdict = TryAgain(0.05, 3.0)
        pauses = [verdict.jittered_seconds(dice / 10) for dice in range(10)]
        assert min(pauses) == 3.0
        assert max(pauses) <= verdict.longest_seconds == 3.75
        assert TryAgain(1.0).jittered_seconds(0.0) == 0.75

    def test_beyond_the_deadline_it_ends_at_once_and_says_when(self) -> None:
        error = UpstreamUnavailableError("full", retry_after_seconds=30.0, is_serving=True)
        verdict = Attempts(LIMITS).assess(error, has_text=False, now=0.0)
        assert isinstance(verdict, GiveUp)
        assert (verdict.error.code, verdict.error.retry_after_seconds) == ("model_unavailable", 30.0)
