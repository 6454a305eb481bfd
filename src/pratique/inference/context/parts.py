"""What the context budget is asked, and what it answers. Pure values."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pratique.inference.engines.interface import ChatMessage

__all__ = ["Fitted", "Placement", "Sizes", "Turn", "Wanted"]


class Placement(enum.Enum):
    """What became of a history message."""

    PINNED = "pinned"
    RECENT = "recent"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Turn:
    """One message of the history."""

    message: ChatMessage
    is_pinned: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything that should be in the prompt."""

    tail: tuple[ChatMessage, ...]
    """The current query and whatever follows it (tool calls and results of a running tool loop)."""
    system_prompt: str = ""
    passages: tuple[str, ...] = ()
    """Retrieved context, most relevant first."""
    history: tuple[Turn, ...] = ()
    """Earlier messages, oldest first; a system message among them counts as pinned."""
    max_tokens: int
    """Reserved for the reply."""
    recalled: str = ""
    """What came back of turns that are dropped; it goes into the first marker."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Tokens of each part; together they are the total."""

    system: int = 0
    context: int = 0
    query: int = 0
    pinned: int = 0
    recent: int = 0
    marker: int = 0
    template: int = 0
    """What the template puts around all messages, the reply's prefix, and what the caller added (tools)."""
    output: int = 0


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What is in the prompt, and what was left out."""

    messages: tuple[ChatMessage, ...]
    prompt_tokens: int
    total_tokens: int
    """The prompt and what is reserved for the reply."""
    sizes: Sizes
    placements: tuple[Placement, ...] = ()
    """Of each history message."""
    turn_tokens: tuple[int, ...] = ()
    """Of each history message, kept or not."""
    turns_dropped: int = 0
    """History messages."""
    passages_dropped: int = 0
    entity_block: str = ""
    """What pinned units name that did not fit, as it stands in the marker."""
    recalled: str = ""
    """What came back of dropped turns, as it stands in the marker; "" where it did not fit."""
    is_marked: bool = True
    """Whether every gap has its marker; False where there was no room for one."""
    notice: str | None = None
    """For the user."""

    @property
    def was_truncated(self) -> bool:
        return self.turns_dropped > 0 or self.passages_dropped > 0
