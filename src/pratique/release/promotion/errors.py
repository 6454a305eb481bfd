"""What can come of a promotion or a rollback that is not what was asked for.

EnvironmentFaultError
├── CanaryInconclusiveError    it could not be told whether the new one is worse; the old one has all traffic
└── ReleaseUnhealthyError      it has all traffic, and its own health check says no
RefusedError
├── CanaryFailedError          the new one is worse; the old one has all traffic
├── PromotionAbortedError      given up for another reason; the old one has all traffic
├── RolloutOpenError           another promotion or rollback of the environment is not finished
├── RolloutLostError           somebody else took this one over
└── NothingBeforeError         there is no release to go back to
"""

from __future__ import annotations

from pratique.core.errors import EnvironmentFaultError, RefusedError
from pratique.release.predicates import Canary

__all__ = [
    "CanaryFailedError",
    "CanaryInconclusiveError",
    "NothingBeforeError",
    "PromotionAbortedError",
    "ReleaseUnhealthyError",
    "RolloutLostError",
    "RolloutOpenError",
]


class CanaryInconclusiveError(EnvironmentFaultError):
    """The canary was measured too little, or is perhaps worse."""

    code = "canary_inconclusive"

    def __init__(self, message: str, *, canary: Canary, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.canary = canary


class ReleaseUnhealthyError(EnvironmentFaultError):
    """A release has all traffic and is not healthy."""

    code = "release_unhealthy"


class CanaryFailedError(RefusedError):
    """The canary is worse than what is in production."""

    code = "canary_failed"

    def __init__(self, message: str, *, canary: Canary, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.canary = canary


class PromotionAbortedError(RefusedError):
    """The promotion was given up, and the old release has all traffic."""

    code = "promotion_aborted"


class RolloutOpenError(RefusedError):
    """A promotion or a rollback of this environment is not finished."""

    code = "rollout_open"


class RolloutLostError(RefusedError):
    """Another process took the rollout over; this one touches nothing any more."""

    code = "rollout_lost"


class NothingBeforeError(RefusedError):
    """No release that was promoted before may be gone back to."""

    code = "nothing_before"
