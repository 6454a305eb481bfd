"""When a process that ended is started again. Pure.

Back-off grows from one failure to the next and starts over once a run was stable. It never ends by itself: a machine
that heals gets its service back. What can never work is another matter: an exit code that says "used wrongly" will say
so again, so the service is given up with the reason.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

__all__ = ["Exit", "GiveUp", "Restart", "RestartPolicy", "assess_exit"]


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """Delays in seconds between an exit and the next start."""

    first_delay_seconds: float = 0.1
    factor: float = 2.0
    max_delay_seconds: float = 15.0
    stable_seconds: float = 20.0
    """A run that was ready, or lasted for so long, ends the series of failures before it."""
    final_codes: frozenset[int] = frozenset({2})


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a run ended. `code` is the exit code, or minus the signal's number."""

    code: int
    uptime_seconds: float
    was_ready: bool
    reason: str = ""
    """Why the supervisor ended it, where it did."""

    def describe(self) -> str:
        """Return what happened in words."""
        if self.reason:
            return self.reason
        if self.code >= 0:
            return f"exited with code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was killed by signal {-self.code}"


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Start again after a delay. `failures` counts this one and those right before it."""

    delay_seconds: float
    failures: int


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """Do not start again."""

    reason: str


def assess_exit(policy: RestartPolicy, ended: Exit, *, failures_before: int) -> Restart | GiveUp:
    """Decide what follows an exit that nobody asked for."""
    if ended.code in policy.final_codes and not ended.reason:
        return GiveUp(reason=f"{ended.describe()}, which means that it will never work as it is started")
    is_stable = ended.was_ready or ended.uptime_seconds >= policy.stable_seconds
    failures = 1 if is_stable else failures_before + 1
    delay = policy.first_delay_seconds * policy.factor ** min(failures - 1, 64)
    return Restart(delay_seconds=min(delay, policy.max_delay_seconds), failures=failures)
