"""The slow 503s of the field, ten times as fast: 0.48 s each, against a promise of one second."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.choreography import at_most, fail, ok
from pratique.testkit.timing import SlaError, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.choreography.upstream import Upstream

pytestmark = pytest.mark.integration

SLA_SECONDS = 1.0
SLOW_SECONDS = 0.6
ATTEMPT_SECONDS = 0.25
PAUSE_SECONDS = 0.02


def call_naively(url: str) -> bytes:
    """Three attempts; only their count is bounded."""
    return attempt_three_times(url, timeout=30.0)


def call_with_discipline(url: str) -> bytes:
    """Three attempts, each with its own time-out."""
    return attempt_three_times(url, timeout=ATTEMPT_SECONDS)


def attempt_three_times(url: str, timeout: float) -> bytes:
    for _ in range(2):
        try:
            return once(url, timeout)
        except (urllib.error.HTTPError, TimeoutError):
            time.sleep(PAUSE_SECONDS)
    return once(url, timeout)


def once(url: str, timeout: float) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - our own server
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        error.close()
        raise


def script_one_slow_leg(upstream: Upstream) -> None:
    upstream.script(fail(503, after=SLOW_SECONDS), fail(503), ok(text="at last"))


def script_two_slow_legs(upstream: Upstream) -> None:
    upstream.script(fail(503, after=SLOW_SECONDS), fail(503, after=SLOW_SECONDS), ok(text="at last"))


def test_two_slow_legs_break_the_promise_of_a_naive_client(upstream: Upstream) -> None:
    script_two_slow_legs(upstream)
    with pytest.raises(SlaError), within(SLA_SECONDS):
        assert call_naively(upstream.url) == b"at last"
    upstream.verify(count=3)


def test_one_slow_leg_does_not_show_it(upstream: Upstream) -> None:
    """The trap of the obvious test: it takes as long as its one slow answer, which is not too long."""
    script_one_slow_leg(upstream)
    began = time.monotonic()
    assert call_naively(upstream.url) == b"at last"
    assert time.monotonic() - began >= SLOW_SECONDS
    upstream.verify(count=3)


def test_the_gaps_show_a_naive_client_also_with_one_slow_leg(upstream: Upstream) -> None:
    script_one_slow_leg(upstream)
    call_naively(upstream.url)
    with pytest.raises(AssertionError, match=r"expected gaps of at most 0\.5 s, got 0\.[6-9]\d* s before attempt 2"):
        upstream.verify(gaps=at_most(2 * ATTEMPT_SECONDS))


@pytest.mark.parametrize("script", [script_one_slow_leg, script_two_slow_legs])
def test_a_client_with_a_timeout_for_each_attempt_keeps_it(
    upstream: Upstream, script: Callable[[Upstream], None]
) -> None:
    script(upstream)
    with within(SLA_SECONDS):
        assert call_with_discipline(upstream.url) == b"at last"
    upstream.verify(count=3, gaps=at_most(2 * ATTEMPT_SECONDS))
    assert "[attempt 1 was given up within 0." in upstream.report()[0][1]
