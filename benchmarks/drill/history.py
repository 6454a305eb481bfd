"""What people saw, message by message: the evidence on which a run is judged. Written to a file as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["History", "Said", "Silence", "Trouble"]


@dataclass(kw_only=True)
class Said:
    """One message of one person and all that came of it. Seconds since the load began."""

    person: str
    transport: str
    number: int
    """Of this person, in the order of sending."""
    client_message_id: str
    text: str
    sent: float
    conversation_id: str | None = None
    acknowledged: float | None = None
    user_turn_id: str | None = None
    generation_id: str | None = None
    ended: float | None = None
    reply: str = ""
    turn_id: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    attempts: int = 0
    events: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    """Number, text, and how it ended, of every numbered event of the reply; those that were disowned are not in it."""
    faults: list[str] = field(default_factory=list)
    """Breaches of the protocol that the person saw: an event twice, one missing, two different answers."""

    def show(self, seq: int, text: str | None = None, finish_reason: str | None = None) -> None:
        """An event came."""
        self.events.append((seq, text, finish_reason))
        self.reply += text or ""

    def disown(self, text: str = "") -> None:
        """What was shown of the reply counts for nothing: this is all there is."""
        self.events.clear()
        self.reply = text


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """An error that a person was shown."""

    at: float
    transport: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Silence:
    """Nothing of a running reply came for so long. Ends at `at`."""

    at: float
    seconds: float


class History:
    """Collects while the load runs."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.troubles: list[Trouble] = []
        self.silences: list[Silence] = []

    def trouble(self, at: float, transport: str, code: str) -> None:
        self.troubles.append(Trouble(at=at, transport=transport, code=code))

    def silence(self, at: float, seconds: float) -> None:
        self.silences.append(Silence(at=at, seconds=seconds))

    def count_troubles(self) -> dict[str, dict[str, int]]:
        """Return how many errors were shown, by transport and code."""
        counts: dict[str, Counter[str]] = {}
        for trouble in self.troubles:
            counts.setdefault(trouble.transport, Counter())[trouble.code] += 1
        return {transport: dict(found.most_common()) for transport, found in sorted(counts.items())}

    def write(self, path: Path) -> None:
        """Write all messages, one JSON object a line."""
        lines = [json.dumps(asdict(said), ensure_ascii=False) for said in self.said]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
