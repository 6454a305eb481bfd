"""When an ended process is started again."""

from __future__ import annotations

import pytest

from pratique.fleet.processes.policy import Exit, GiveUp, Restart, RestartPolicy, assess_exit

pytestmark = pytest.mark.unit
POLICY = RestartPolicy(first_delay_seconds=0.5, factor=2, max_delay_seconds=5, stable_seconds=20)


def ended(code: int = 1, *, uptime_seconds: float = 1, was_ready: bool = False, reason: str = "") -> Exit:
    return Exit(code=code, uptime_seconds=uptime_seconds, was_ready=was_ready, reason=reason)


def test_delays_double_up_to_the_cap_and_never_end() -> None:
    delays = []
    failures = 0
    for _ in range(1000):
        verdict = assess_exit(POLICY, ended(), failures_before=failures)
        assert isinstance(verdict, Restart)
        failures = verdict.failures
        delays.append(verdict.delay_seconds)
    assert delays[:5] == [0.5, 1, 2, 4, 5]
    assert set(delays[4:]) == {5}


@pytest.mark.parametrize("exit_", [ended(-9, was_ready=True), ended(uptime_seconds=20)])
def test_stable_run_starts_the_series_over(exit_: Exit) -> None:
    assert assess_exit(POLICY, exit_, failures_before=7) == Restart(delay_seconds=0.5, failures=1)


def test_usage_error_is_final_and_says_so() -> None:
    verdict = assess_exit(POLICY, ended(2), failures_before=0)
    assert isinstance(verdict, GiveUp)
    assert "code 2" in verdict.reason


def test_code_of_a_program_that_we_killed_is_not_its_own_word() -> None:
    assert isinstance(assess_exit(POLICY, ended(2, reason="was late"), failures_before=0), Restart)


@pytest.mark.parametrize(
    ("exit_", "words"),
    [
        (ended(3), "exited with code 3"),
        (ended(-9), "was killed by SIGKILL"),
        (ended(-99), "was killed by signal 99"),
        (ended(-9, reason="was not ready within 3 s"), "was not ready within 3 s"),
    ],
)
def test_exit_in_words(exit_: Exit, words: str) -> None:
    assert exit_.describe() == words
