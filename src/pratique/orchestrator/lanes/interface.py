"""What a burst lane is, to those who spill into it: the protocol, its errors, its name."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.forward.interface import ForwardAnswer, ForwardRequest

__all__ = ["BASELINE", "BURST", "BurstFullError", "BurstLane"]

BASELINE: Final = "baseline"
BURST: Final = "burst"


class BurstFullError(EnvironmentFaultError):
    """The lane takes no more now; nothing was run. Says nothing against its health."""

    code = "burst_full"


class BurstLane(Protocol):
    """Runs stateless requests elsewhere. Leaving the context before the body's end ends the run, as far as can be."""

    @property
    def num_free(self) -> int:
        """How many more requests it takes now, as far as it knows without asking."""
        ...

    @property
    def max_body_bytes(self) -> int:
        """A request with a longer body does not fit in an invocation."""
        ...

    def open(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardAnswer]:
        """Run it; entering waits for the head of the answer, for `request.timeout_seconds` at most.

        Raises (on entering):
            BurstFullError: no room, or throttled.
            ForwardUnavailableError: it failed before the head; no byte of an answer was seen. After the head, `chunks`
                raises it.
        """
        ...
