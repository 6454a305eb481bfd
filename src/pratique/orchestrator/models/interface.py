"""What chooses a pool: the question it is asked, the choice it makes, and the errors of naming.

CallerError
├── UnknownModelError    the message names a pool, adapter or model that there is not
└── ModelNeededError     messages must name one here, and this one does not
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pratique.orchestrator.upstream.interface import HistoryTurn

__all__ = ["Choice", "ModelNeededError", "Question", "RoutingPolicy", "UnknownModelError"]


class UnknownModelError(CallerError):
    """No pool, adapter or model has the name."""

    code = "unknown_model"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"Expected the name of a model; '{name}' is none.", hint=f"There are: {', '.join(known) or 'none'}."
        )


class ModelNeededError(CallerError):
    """A message must name its model here."""

    code = "unknown_model"

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__("A message must name a model here.", hint=f"There are: {', '.join(known)}.")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a policy may decide by. The same for every attempt at one reply."""

    text: str
    history: tuple[HistoryTurn, ...] = ()
    passages: tuple[str, ...] = ()
    """What retrieval found."""
    pools: tuple[str, ...] = ()
    """The names there are, the default first."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A pool, and in words for people why."""

    pool: str
    reason: str
    adapter: str = ""
    """One of that pool's adapters; "" for the pool's own model."""


class RoutingPolicy(Protocol):
    """Chooses a pool for a question that names none.

    `choose` is pure and quick (it runs on the event loop) and says the same to the same question. What it raises, and a
    choice of what does not exist, costs no reply: the default pool answers, and the reply says so.
    """

    @property
    def name(self) -> str:
        """Shown with each reply, and a label of metrics: short, always the same."""
        ...

    def choose(self, question: Question) -> Choice: ...
