"""What messages cost and name, remembered: every turn of a conversation is looked at once, not once per later turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pratique.inference._memory import Memory
from pratique.inference.context.entities import entities_of
from pratique.inference.engines.interface import ChatMessage, Engine

__all__ = ["CostCache", "Costs", "Known"]

_MAX_CHARACTERS: Final = 8_000_000
_Key: TypeAlias = tuple[str, str, str]


class Known:
    """What is known of one message. Its entities are looked for when they are first asked for."""

    __slots__ = ("_entities", "_text", "tokens")

    def __init__(self, tokens: int, text: str) -> None:
        self.tokens = tokens
        self._text = text
        self._entities: tuple[str, ...] | None = None

    @property
    def entities(self) -> tuple[str, ...]:
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
        max_characters: int = _MAX_CHARACTERS,
    ) -> None:
        self._message = message
        self._text = text
        self._memory: Memory[_Key, Known] = Memory(max_size=max_characters)

    def look(self, messages: Iterable[ChatMessage]) -> list[Known]:
        """What is known of each message."""
        read, look_up = self._memory.reader(), self._look_up
        return [read((message.content, message.role, message.extra)) or look_up(message) for message in messages]

    def message(self, message: ChatMessage) -> int:
        """Tokens that a message adds to a prompt."""
        return self.look((message,))[0].tokens

    def text(self, text: str) -> int:
        """Tokens of a bare text."""
        key = (text, "", "")
        known = self._memory.reader()(key)
        if known is None:
            known = self._memory.get(key) or Known(self._text(text), text)
            self._memory.put(key, known, size=len(text))
        return known.tokens

    def _look_up(self, message: ChatMessage) -> Known:
        key = (message.content, message.role, message.extra)
        known = self._memory.get(key) or Known(self._message(message), message.content)
        self._memory.put(key, known, size=len(message.content) + len(message.extra))
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
