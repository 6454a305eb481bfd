"""The historic bug: an upstream that answers 503 slowly, 4.8 s each, against an SLA of 10 s.

Three tries of 4.8 s are 14.4 s: whoever bounds only the number of tries breaks the SLA. Time is computed, not spent.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.orchestrator.sessions.attempts import AttemptLimits, Attempts, GiveUp
from pratique.orchestrator.upstream.interface import TimeoutPhase, UpstreamTimeoutError, UpstreamUnavailableError

pytestmark = pytest.mark.unit

SLA_SECONDS = 10.0
ATTEMPT_SECONDS = 6.0
LIMITS = AttemptLimits(answer_seconds=SLA_SECONDS, quick_refusal_seconds=2.0, model_wait_seconds=60.0)


def naive(durations: Iterator[float], *, tries: int = 3) -> float:
    """Return how long a client takes that bounds the tries, and no more."""
    return sum(next(durations) for _ in range(tries))


def ours(durations: Iterator[float], *, dice: float = 0.999) -> tuple[float, GiveUp, int]:
    """Return when it ends, with what, and after how many attempts, for a client with the worst luck in its jitter."""
    attempts, now, count = Attempts(LIMITS), 0.0, 0
    while True:
        given = attempts.begin(has_text=False, now=now)
        count += 1
        allowed = min(ATTEMPT_SECONDS, given.first_text_seconds)
        took = next(durations)
        now += min(took, allowed)
        error = (
            UpstreamUnavailableError("503")
            if took < allowed
            else UpstreamTimeoutError("late", phase=TimeoutPhase.FIRST_TOKEN)
        )
        verdict = attempts.assess(error, has_text=False, now=now)
        if isinstance(verdict, GiveUp):
            return now, verdict, count
        now += verdict.jittered_seconds(dice)


def forever(seconds: float) -> Iterator[float]:
    while True:
        yield seconds


def test_naive_client_breaks_the_sla() -> None:
    assert naive(forever(4.8)) == pytest.approx(14.4)
    assert naive(forever(4.8)) > SLA_SECONDS


def test_here_a_clear_answer_comes_within_the_sla() -> None:
    seconds, verdict, num_attempts = ours(forever(4.8))
    assert seconds < SLA_SECONDS
    assert num_attempts == 2
    assert verdict.error.code == "model_unavailable"
    assert verdict.error.retry_after_seconds


@given(st.lists(st.floats(2.0, 30.0), min_size=40, max_size=40), st.floats(0, 0.999))
@settings(max_examples=50, deadline=None)
def test_it_does_so_however_slow_each_of_them_is(durations: list[float], dice: float) -> None:
    seconds, verdict, _ = ours(iter(durations), dice=dice)
    assert seconds < SLA_SECONDS
    assert verdict.error.code in {"model_unavailable", "first_token_timeout"}
