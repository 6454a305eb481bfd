"""What a checker can find, and what it is told to expect."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Anomaly", "Expectations", "Finding"]


class Finding(enum.Enum):
    """What can be wrong."""

    LOST = "an acknowledged turn is lost"
    DOUBLED = "a turn is stored twice"
    INVENTED = "a turn is stored that nobody sent"
    REFUSED_STORED = "a turn is stored that was refused"
    TWO_ANSWERS = "one message was answered as two"
    REORDERED = "turns are stored against their acknowledged order"
    NO_PREFIX = "a read shows what is no beginning of the conversation"
    WENT_BACK = "reads at one source went back"
    STALE = "a read missed what was acknowledged long before"
    REVIVED = "what was deleted came back"
    TWO_REPLIES = "a generation left two replies"
    SPLIT_STREAM = "one event of a reply came with two meanings"
    GAP = "events of a reply were left out"
    REPLY_DIFFERS = "the stored reply is not what was streamed"
    UNENDED = "a generation never ended"
    UNCHECKED = "a conversation was not read at the end"


@dataclass(frozen=True)
class Anomaly:
    """One finding, and what it is about."""

    finding: Finding
    conversation_id: str
    detail: str

    def __str__(self) -> str:
        """For people."""
        return f"{self.finding.value}: {self.conversation_id or 'no conversation'}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Expectations:
    """What is promised beyond what always is."""

    stale_seconds: float | None = 0.0
    """How old a read may be. None: as old as it likes. 0: a store that answers from the truth."""
    all_end: bool = False
    """Whether every generation must have ended by the final read."""
