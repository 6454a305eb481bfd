"""What the real WireMock's timeline shows of time-outs, and of blocks in which few attempts, or none, may come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.testkit.choreography import at_least, at_most, fail, ok
from pratique.testkit.services.http import ask

if TYPE_CHECKING:
    from pratique.testkit.choreography.upstream import Upstream

pytestmark = pytest.mark.integration


def get(url: str, *, seconds: float = 5.0) -> int:
    return ask("GET", url, seconds=seconds).status


def test_waits_show_whether_each_attempt_has_a_time_out(upstream: Upstream) -> None:
    upstream.script(fail(503, after=1.0), fail(503, after=1.0), ok())
    for _ in range(2):
        with pytest.raises(TimeoutError):
            get(upstream.url, seconds=0.1)
    get(upstream.url)
    upstream.verify(count=3, waits=at_most(0.3))
    patient = upstream.client("patient")
    assert [get(patient.url) for _ in range(3)] == [503, 503, 200]
    with pytest.raises(AssertionError, match=r"attempt 4 was not given up before its answer, which took 1 s"):
        upstream.verify(client="patient", waits=at_most(0.3))
    with pytest.raises(AssertionError, match="no attempt shows waits of at most 2 s"):
        upstream.verify(waits=at_most(2))


def test_a_block_is_held_to_the_number_of_attempts_that_reach_the_upstream(upstream: Upstream) -> None:
    upstream.script(ok())
    get(upstream.url)
    with upstream.reached(0):
        pass
    with upstream.reached(2):
        get(upstream.url)
        get(upstream.client("other").url)
    told = r"expected 0 attempts in this block, got 1, from attempt 4 on\ntimeline"
    with pytest.raises(AssertionError, match=told), upstream.reached(0):
        get(upstream.url)
    told = "expected at least 1 attempts in this block, got 0"
    with pytest.raises(AssertionError, match=told), upstream.reached(at_least(1)):
        pass
    with pytest.raises(LookupError), upstream.reached(5):
        raise LookupError  # an error of the block itself is not covered up
