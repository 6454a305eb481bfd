"""What an API needs of a model to serve requests with it. `slot.ModelSlot` is one; how it is kept is not known here."""

from __future__ import annotations

import enum
from typing import Final, Protocol

from pratique.inference.containment.breaker import Admission, Breaker
from pratique.inference.context.fitter import Fitter
from pratique.inference.engines.interface import Engine

__all__ = ["WARMUP", "Models", "Outcome", "Target"]

WARMUP: Final = "pratique.warmup"
"""Key of an ASGI scope: this request is the warmup's own, and passes before the model is ready."""


class Outcome(enum.Enum):
    """How an admitted request ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """By the engine's trouble."""
    ABANDONED = "abandoned"
    """The caller left or its time was over: that says nothing about the engine."""


class Target(Protocol):
    """One model, as the APIs see it."""

    @property
    def name(self) -> str: ...

    @property
    def engine(self) -> Engine: ...

    @property
    def fitter(self) -> Fitter: ...

    @property
    def breaker(self) -> Breaker: ...

    @property
    def is_ready(self) -> bool: ...

    def admit(self, wanted_tokens: int) -> Admission:
        """Say how much context a request gets that wants so many tokens in all; to be settled."""
        ...

    def settle(self, admission: Admission, outcome: Outcome) -> None:
        """Say how an admitted request ended; more than once does no harm."""
        ...


class Models(Protocol):
    """The models of a server."""

    def find(self, model: str | None, *, is_warmup: bool) -> tuple[Target, str | None]:
        """Return the model, and the adapter where the name is one's; None is the first model.

        Raises:
            UnknownModelError: there is none of that name. NotReadyError: it does not take traffic now.
        """
        ...
