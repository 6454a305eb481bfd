"""After an attempt at a reply has failed: try again, and when, or give up, and with what words. Pure.

What bit others: bounding only the number of tries. Here both tries and time are bounded, and waiting for a server that
takes traffic is told apart from losing one:

- While every attempt is refused at once, nobody takes traffic: the message waits, up to `model_wait_seconds`.
- With the first attempt that servers took, the answer's deadline begins, at that attempt's start: further attempts,
  pauses and time-outs come together to less than `answer_seconds`, or the reply ends with a clear error before. Where
  that server was lost and nobody else takes traffic, the message waits again.
- Once text was seen, a lost server is waited for anew, up to `continue_wait_seconds`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pratique.orchestrator.protocol.events import EventError, FinishReason
from pratique.orchestrator.upstream.discipline.verdicts import was_taken
from pratique.orchestrator.upstream.interface import (
    TimeoutPhase,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from pratique.core.errors import PratiqueError

__all__ = ["Attempt", "AttemptLimits", "Attempts", "GiveUp", "Loss", "TryAgain", "loss_of"]

_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 1.0
_LONGEST_HONOURED_SECONDS = 5.0
"""Of a Retry-After: a server that loads guesses how long, and the message should not wait for the guess."""
_RETRY_AFTER_SECONDS = 2.0
_DEADLINE_SHARE = 0.98
"""Of the answer's deadline: what is left is for storing and saying that it was missed."""
_LEAST_ATTEMPT_SHARE = 0.05
"""Of the answer's deadline: with less left no attempt is begun."""


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
    """For a server that takes traffic, before the first token of the reply."""
    answer_seconds: float = 10.0
    """To the first token, from the start of the first attempt that was taken."""
    quick_refusal_seconds: float = 2.0
    """A refusal that took longer was an attempt that was taken."""
    continue_wait_seconds: float = 20.0
    """For a server, after it."""
    max_losses: int = 6
    """Servers lost in one reply, over all its producers."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What one attempt is given."""

    number: int
    """1 for the first of this producer."""
    is_retry: bool
    """Servers took an earlier one, in vain."""
    first_text_seconds: float


@dataclass(frozen=True)
class TryAgain:
    """Open the next attempt after `delay_seconds`, and not before the servers want to be asked again."""

    delay_seconds: float
    least_seconds: float = 0.0

    def jittered_seconds(self, dice: float) -> float:
        """Return the pause, spread by `dice` in [0, 1): a quarter around the delay, a quarter past the least."""
        return max(self.delay_seconds * (0.75 + 0.5 * dice), self.least_seconds * (1.0 + 0.25 * dice))

    @property
    def longest_seconds(self) -> float:
        return max(self.delay_seconds, self.least_seconds) * 1.25


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
        self._num_begun = 0
        self._began: float | None = None
        self._waiting_since: float | None = None
        self._answer_until: float | None = None
        self._is_deadline_firm = False
        """It began with servers that are there, and not with one that was lost."""

    def begin(self, *, has_text: bool, now: float) -> Attempt:
        """Say what the attempt that begins now may take."""
        self._began = now
        self._num_begun += 1
        until = None if has_text else self._answer_until
        return Attempt(
            number=self._num_begun,
            # What goes on after text replaces work that was lost, it is not on top of it.
            is_retry=until is not None,
            first_text_seconds=_DEADLINE_SHARE * self._limits.answer_seconds
            if until is None
            else max(0.001, until - now),
        )

    def progressed(self) -> None:
        """A server sends text: the next wait is a new one."""
        self._waiting_since = None
        self._num_waits = 0
        self._answer_until = None
        self._is_deadline_firm = False

    def assess(self, error: PratiqueError, *, has_text: bool, now: float) -> Verdict:
        """Say what follows from this failure."""
        loss = loss_of(error)
        if loss is Loss.REFUSED or loss is Loss.REPLY_TOO_LONG:
            return _final(error)
        if loss is not Loss.UNAVAILABLE:
            self._num_losses += 1
        if self._waiting_since is None:
            self._waiting_since = now
        if not has_text:
            self._judge_deadline(error, loss, now)
        # The first try after a loss goes out at once: another server is likely there.
        is_first = self._num_waits == 0 and loss is not Loss.UNAVAILABLE
        delay = 0.0 if is_first else min(_FIRST_DELAY_SECONDS * 2**self._num_waits, _LONGEST_DELAY_SECONDS)
        wanted = error.retry_after_seconds if isinstance(error, UpstreamUnavailableError) else None
        verdict = TryAgain(delay, min(wanted or 0.0, _LONGEST_HONOURED_SECONDS))
        if self._is_exhausted(verdict, wanted or 0.0, has_text=has_text, now=now):
            return _exhausted(error, loss, has_text=has_text)
        self._num_waits += 1
        return verdict

    def _judge_deadline(self, error: PratiqueError, loss: Loss, now: float) -> None:
        began = now if self._began is None else self._began
        quick = self._limits.quick_refusal_seconds
        if not was_taken(error, took_seconds=now - began, quick_refusal_seconds=quick):
            if not self._is_deadline_firm:
                # The server was lost, and no other takes traffic: this is a wait again.
                self._answer_until = None
            return
        if self._answer_until is None:
            self._answer_until = began + _DEADLINE_SHARE * self._limits.answer_seconds
        self._is_deadline_firm = self._is_deadline_firm or loss is not Loss.INTERRUPTED

    def _is_exhausted(self, verdict: TryAgain, wanted_seconds: float, *, has_text: bool, now: float) -> bool:
        limits = self._limits
        if self._num_losses > limits.max_losses or self._waiting_since is None:
            return True
        if not has_text and self._answer_until is not None:
            # An attempt that has no time to answer is not begun, nor one that the servers do not want before.
            least = _LEAST_ATTEMPT_SHARE * limits.answer_seconds
            pause = max(verdict.longest_seconds, wanted_seconds)
            return now + pause + least > self._answer_until
        budget = limits.continue_wait_seconds if has_text else limits.model_wait_seconds
        return now - self._waiting_since >= budget


def _final(error: PratiqueError) -> GiveUp:
    if isinstance(error, UpstreamRefusedError):
        code = error.refused_code if error.refused_code in _TOLD else "engine_error"
        told = EventError(code=code, message=error.message, hint=error.hint, fallback=error.fallback)
        return GiveUp(FinishReason.ERROR, told)
    message = "The reply took longer than a reply may take; it ends here."
    return GiveUp(FinishReason.TIMEOUT, EventError(code="interrupted", message=message))


def _exhausted(error: PratiqueError, loss: Loss, *, has_text: bool) -> GiveUp:
    if loss is Loss.NO_NEXT_TOKEN:
        message = "The model server stopped sending, and no other went on in time."
        return GiveUp(FinishReason.TIMEOUT, EventError(code="inter_token_timeout", message=message, hint="Try again."))
    if has_text:
        message = "The model server was lost in the middle of the reply, and no other went on in time."
        return GiveUp(FinishReason.ERROR, EventError(code="interrupted", message=message, hint="Try again."))
    if loss is Loss.NO_FIRST_TOKEN:
        message = "The model server did not begin to answer in time."
        return GiveUp(FinishReason.TIMEOUT, EventError(code="first_token_timeout", message=message, hint="Try again."))
    if isinstance(error, UpstreamUnavailableError):
        return GiveUp(FinishReason.ERROR, _unavailable(error))
    return GiveUp(FinishReason.ERROR, EventError(code="engine_error", message=error.message, hint="Try again."))


def _unavailable(error: UpstreamUnavailableError) -> EventError:
    is_failing = error.is_serving
    return EventError(
        code="model_unavailable",
        message="The model servers are too busy or fail." if is_failing else "No model server takes traffic.",
        hint="Try again later.",
        retry_after_seconds=error.retry_after_seconds or _RETRY_AFTER_SECONDS,
        fallback=error.fallback,
    )
