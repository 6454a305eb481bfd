"""Scripts for failures: what an upstream answers, request by request, and what is expected of its clients.

The verbs for HTTP are here; faults of connections, in front of any TCP server, are in `tcp`.
"""

from pratique.testkit.choreography.ranges import Range, at_least, at_most, between
from pratique.testkit.choreography.steps import (
    Event,
    Step,
    dribbled,
    empty,
    exhausted,
    fail,
    garbage,
    hang,
    lognormal,
    ok,
    reset,
    sse,
    truncated,
    uniform,
)

__all__ = [
    "Event",
    "Range",
    "Step",
    "at_least",
    "at_most",
    "between",
    "dribbled",
    "empty",
    "exhausted",
    "fail",
    "garbage",
    "hang",
    "lognormal",
    "ok",
    "reset",
    "sse",
    "truncated",
    "uniform",
]
