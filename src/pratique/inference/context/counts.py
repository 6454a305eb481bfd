"""What messages cost and name, remembered: every turn of a conversation is looked at once, not once per later turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pratique.inference._memory import Memory
from pratique.inference.context.entities import entities_of
from pratique.inference.engines.interface import ChatMessage, Engine

__all__ = ["RICH_ENTITIES", "CostCache", "Costs", "Known"]

RICH_ENTITIES: Final = 3
"""Distinct entities from which an exchange counts as rich; the tests hold the data that it was chosen by."""
_MAX_BYTES: Final = 64 << 20
_Key: TypeAlias = tuple[str, str, str]


class Known:
    """What is known of one message. Its entities are looked for when they are first asked for."""

    __slots__ = ("_entities", "_text", "few", "tokens")

    def __init__(self, tokens: int, text: str) -> None:
        self.tokens = tokens
        self.few: tuple[str, ...] | None = None
        """The first entities: enough to be rich, or all. None until `find_few`."""
        self._text = text
        self._entities: tuple[str, ...] | None = None

    def find_few(self) -> tuple[str, ...]:
        """Read as much of the text as the first few entities take."""
        self.few = few = entities_of(self._text, at_most=RICH_ENTITIES)
        return few

    @property
    def entities(self) -> tuple[str, ...]:
        """Each once, in order of first mention."""
        found = self._entities
        if found is None:
            found = self._entities = entities_of(self._text)
        return found


class CostCache:
    """Remembers the newest messages and texts. Safe to use from several threads."""

    def __init__(
        self,
        message: Callable[[ChatMessage], int],
        text: Callable[[str], int],
        *,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._message = message
        self._text = text
        self._memory: Memory[_Key, Known] = Memory(max_size=max_bytes)

    def look(self, messages: Iterable[ChatMessage]) -> list[Known]:
        """What is known of each message."""
        read, look_up = self._memory.reader(), self._look_up
        return [read((message.content, message.role, message.extra)) or look_up(message) for message in messages]

    def message(self, message: ChatMessage) -> int:
        """Tokens that a message adds to a prompt."""
        read = self._memory.reader()
        return (read((message.content, message.role, message.extra)) or self._look_up(message)).tokens

    def text(self, text: str) -> int:
        """Tokens of a bare text."""
        key = (text, "", "")
        known = self._memory.reader()(key)
        if known is None:
            known = self._memory.get(key) or Known(self._text(text), text)
            self._memory.put(key, known, size=sys.getsizeof(text))
        return known.tokens

    def _look_up(self, message: ChatMessage) -> Known:
        key = (message.content, message.role, message.extra)
        known = self._memory.get(key) or Known(self._message(message), message.content)
        self._memory.put(key, known, size=sys.getsizeof(message.content) + sys.getsizeof(message.extra))
        return known


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the budget is told of one prompt's costs: remembered counts, and the frame of this prompt."""

    cache: CostCache
    frame: Callable[[bool], int]
    """Tokens of the prompt without its messages, with the reply's prefix; told whether a system message is there."""
    count: Callable[[Sequence[ChatMessage]], int]
    """Exact tokens of the whole prompt; only asked where sums are not exact."""
    is_exact: bool
    """Whether frame and messages always add up to the whole prompt."""
    allows_system_inside: bool

    @classmethod
    def of(cls, engine: Engine, cache: CostCache, *, prefix: str = "", tools: str = "") -> Costs:
        """Costs of a prompt for this engine. Tools are not part of its sums, so that with them the whole is counted."""
        costs = engine.costs
        return cls(
            cache=cache,
            frame=lambda has_system: costs.frame(has_system=has_system, prefix=prefix),
            count=lambda messages: len(engine.encode(messages, prefix=prefix, tools=tools)),
            is_exact=costs.is_exact and not tools,
            allows_system_inside=costs.allows_system_inside,
        )
