"""After an attempt at a reply has failed: try again, and when, or give up, and with what words. Pure.

What bit others: bounding only the number of tries. Here both tries and time are bounded, and waiting for a server that
takes traffic is told apart from losing one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.protocol.events import EventError, FinishReason
from pratique.orchestrator.upstream.interface import (
    TimeoutPhase,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from pratique.core.errors import PratiqueError

__all__ = ["AttemptLimits", "Attempts", "GiveUp", "Loss", "TryAgain", "loss_of"]

_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 1.0


class Loss(enum.Enum):
    """How an attempt failed."""

    UNAVAILABLE = "unavailable"
    """Nothing took it."""
    INTERRUPTED = "interrupted"
    """A server took it and was lost."""
    NO_FIRST_TOKEN = "no_first_token"  # noqa: S105 - a kind of loss, not a password
    NO_NEXT_TOKEN = "no_next_token"  # noqa: S105 - a kind of loss, not a password
    REPLY_TOO_LONG = "reply_too_long"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class AttemptLimits:
    """Bounds in number and time."""

    model_wait_seconds: float = 60.0
    """For a server, before the first token of the reply."""
    continue_wait_seconds: float = 20.0
    """For a server, after it."""
    max_losses: int = 6
    """Servers lost in one reply, over all its producers."""


@dataclass(frozen=True)
class TryAgain:
    """Open the next attempt after `delay_seconds`."""

    delay_seconds: float


@dataclass(frozen=True)
class GiveUp:
    """End the reply."""

    finish_reason: FinishReason
    error: EventError


if TYPE_CHECKING:
    Verdict: TypeAlias = TryAgain | GiveUp


_TOLD: Final = frozenset({"context_length_exceeded", "unknown_model"})
"""Refusals that the sender can do something about keep their code."""


def loss_of(error: PratiqueError) -> Loss:
    """Sort an upstream error."""
    if isinstance(error, UpstreamUnavailableError):
        return Loss.UNAVAILABLE
    if isinstance(error, UpstreamRefusedError):
        return Loss.REFUSED
    if isinstance(error, UpstreamTimeoutError):
        return {
            TimeoutPhase.FIRST_TOKEN: Loss.NO_FIRST_TOKEN,
            TimeoutPhase.INTER_TOKEN: Loss.NO_NEXT_TOKEN,
            TimeoutPhase.REPLY: Loss.REPLY_TOO_LONG,
        }[error.phase]
    return Loss.INTERRUPTED


class Attempts:
    """Counts the losses of one reply. `assess` is called with each failed attempt, at the time `now`."""

    def __init__(self, limits: AttemptLimits, *, num_losses: int = 0) -> None:
        self._limits = limits
        self._num_losses = num_losses
        self._num_waits = 0
        self._waiting_since: float | None = None

    def progressed(self) -> None:
        """A server sends text: the next wait is a new one."""
        self._waiting_since = None
        self._num_waits = 0

    def assess(self, error: PratiqueError, *, has_text: bool, now: float) -> Verdict:
        """Say what follows from this failure."""
        loss = loss_of(error)
        if loss is Loss.REFUSED or loss is Loss.REPLY_TOO_LONG or (loss is Loss.NO_FIRST_TOKEN and not has_text):
            return _final(error, loss)
        if loss is not Loss.UNAVAILABLE:
            self._num_losses += 1
        if self._waiting_since is None:
            self._waiting_since = now
        limits = self._limits
        budget = limits.continue_wait_seconds if has_text else limits.model_wait_seconds
        if self._num_losses > limits.max_losses or now - self._waiting_since >= budget:
            return _exhausted(error, loss, has_text=has_text)
        delay = min(_FIRST_DELAY_SECONDS * 2**self._num_waits, _LONGEST_DELAY_SECONDS)
        # The first try after a loss goes out at once: another server is likely there.
        is_first = self._num_waits == 0 and loss is not Loss.UNAVAILABLE
        self._num_waits += 1
        return TryAgain(0.0 if is_first else delay)


def _final(error: PratiqueError, loss: Loss) -> GiveUp:
    if isinstance(error, UpstreamRefusedError):
        code = error.refused_code if error.refused_code in _TOLD else "engine_error"
        told = EventError(code=code, message=error.message, hint=error.hint, fallback=error.fallback)
        return GiveUp(FinishReason.ERROR, told)
    if loss is Loss.NO_FIRST_TOKEN:
        message = "The model server did not begin to answer in time."
        return GiveUp(FinishReason.TIMEOUT, EventError(code="first_token_timeout", message=message, hint="Try again."))
    message = "The reply took longer than a reply may take; it ends here."
    return GiveUp(FinishReason.TIMEOUT, EventError(code="interrupted", message=message))


def _exhausted(error: PratiqueError, loss: Loss, *, has_text: bool) -> GiveUp:
    if loss is Loss.NO_NEXT_TOKEN:
        message = "The model server stopped sending, and no other went on in time."
        return GiveUp(FinishReason.TIMEOUT, EventError(code="inter_token_timeout", message=message, hint="Try again."))
    if has_text:
        message = "The model server was lost in the middle of the reply, and no other went on in time."
        return GiveUp(FinishReason.ERROR, EventError(code="interrupted", message=message, hint="Try again."))
    if loss is Loss.UNAVAILABLE:
        told = EventError(
            code="model_unavailable",
            message="No model server takes traffic.",
            hint="Try again later.",
            retry_after_seconds=2.0,
            fallback=getattr(error, "fallback", None),
        )
        return GiveUp(FinishReason.ERROR, told)
    return GiveUp(FinishReason.ERROR, EventError(code="engine_error", message=error.message, hint="Try again."))
