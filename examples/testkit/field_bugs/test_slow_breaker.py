"""Field bug: a breaker whose time-out is longer than the SLA.

The naive code tries three times, allows each attempt 5 s, and opens its breaker after the third failure. Against a mock
that fails at once it answers with its fallback in no time. In the field the upstream took 4.8 s for each of its 503s:
three of them are 14.4 s, and the promise was 10 s. Only the number of attempts was bounded. The fix bounds what all
attempts take together, and gives each its share of it.

Here five times as fast: 0.96 s, an SLA of 2 s.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pratique.testkit import SlaError, within
from pratique.testkit.choreography import at_most, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit import Upstream

pytestmark = pytest.mark.integration

SLA_SECONDS = 2.0
SLOW_SECONDS = 0.96
ATTEMPTS = 3
FALLBACK = "please try again in a minute"


# The code under test.


@dataclass
class Breaker:
    """Open after three failures in a row; an open one calls nobody."""

    failures: int = 0

    @property
    def is_open(self) -> bool:
        return self.failures >= ATTEMPTS


def call_naively(fetch: Callable[[str, float], str], url: str, breaker: Breaker) -> str:
    while not breaker.is_open:
        try:
            return fetch(url, 1.0)  # as long as half the SLA, for each of three
        except OSError:
            breaker.failures += 1
    return FALLBACK


def call(fetch: Callable[[str, float], str], url: str, breaker: Breaker) -> str:
    """Spend at most four fifths of the SLA on all attempts together."""
    deadline = time.monotonic() + 0.8 * SLA_SECONDS
    share = 0.8 * SLA_SECONDS / ATTEMPTS
    while not breaker.is_open and (left := deadline - time.monotonic()) > 0:
        try:
            return fetch(url, min(share, left))
        except OSError:
            breaker.failures += 1
    return FALLBACK


def fetch_over_http(url: str, timeout_seconds: float) -> str:
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        error.close()
        raise


# The tests.


def fail_at_once(url: str, timeout_seconds: float) -> str:
    """What such mocks look like: the right error, and no time passes."""
    raise ConnectionError("503")


def check(
    call: Callable[[Callable[[str, float], str], str, Breaker], str], fetch: Callable[[str, float], str], url: str
) -> None:
    """The one test that somebody wrote: the fallback comes in time, and the breaker is open afterwards."""
    breaker = Breaker()
    with within(SLA_SECONDS, what="an answer"):
        assert call(fetch, url, breaker) == FALLBACK
    assert breaker.is_open


@pytest.fixture
def slow(upstream: Upstream) -> Upstream:
    upstream.script(*[fail(503, after=SLOW_SECONDS)] * ATTEMPTS)
    return upstream


def test_the_naive_code_passes_on_a_mock() -> None:
    check(call_naively, fail_at_once, "http://mock")


def test_the_naive_code_fails_on_a_slow_upstream(slow: Upstream) -> None:
    with pytest.raises(SlaError, match="Expected an answer within 2 s"):
        check(call_naively, fetch_over_http, slow.url)
    slow.verify(count=ATTEMPTS)


def test_the_fix_passes_on_a_mock() -> None:
    check(call, fail_at_once, "http://mock")


def test_the_fix_passes_on_a_slow_upstream(slow: Upstream) -> None:
    check(call, fetch_over_http, slow.url)
    slow.verify(count=ATTEMPTS, gaps=at_most(0.9))
