"""The history's part of a prompt: units chosen for so much room, and markers where others were. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pratique.inference.context._head import Head
from pratique.inference.context.counts import Costs, Known
from pratique.inference.context.marker import entity_block, marker_text
from pratique.inference.context.parts import Wanted
from pratique.inference.context.selection import Kept, Selection
from pratique.inference.context.units import Unit
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.settings import BudgetSettings

__all__ = ["Draft", "History"]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A whole prompt that may still be too long."""

    messages: tuple[ChatMessage, ...]
    prompt_tokens: int
    marker_tokens: int = 0
    kept: Kept
    block: str = ""
    recalled: str = ""
    is_marked: bool = True


@dataclass
class _Page:
    """The messages of a prompt as they are written, one after the other."""

    costs: Costs
    messages: list[ChatMessage]
    marker_tokens: int = 0
    waiting: list[str] = field(default_factory=list)
    """Markers for the next user message to begin with."""

    def write(self, messages: Iterable[ChatMessage]) -> None:
        for message in messages:
            if self.waiting and message.role == "user":
                marked = replace(message, content="\n\n".join((*self.waiting, message.content)))
                self.marker_tokens += self.costs.cache.message(marked) - self.costs.cache.message(message)
                self.messages.append(marked)
                self.waiting.clear()
            else:
                self.messages.append(message)

    def mark(self, text: str, *, quotes: bool) -> None:
        """Say at this place that turns are missing.

        What `quotes` people never becomes a system message: they could give themselves orders of the operator's rank.
        A system message that begins a prompt would take the place of the template's own system prompt.
        """
        if self.costs.allows_system_inside and self.messages and not quotes:
            marker = ChatMessage("system", text)
            self.marker_tokens += self.costs.cache.message(marker)
            self.messages.append(marker)
        else:
            self.waiting.append(text)


@dataclass(frozen=True, kw_only=True)
class History:
    """A history to be fitted behind a head."""

    wanted: Wanted
    head: Head
    units: Sequence[Unit]
    known: Sequence[Known]
    """Of every message."""
    costs: Costs
    policy: BudgetSettings
    extra_tokens: int

    def draft(self, room: int, free: int) -> Draft:
        """Return a prompt with about `room` tokens of history; the marker alone may use all that is `free`."""
        if not self.units or sum([unit.tokens for unit in self.units]) <= room:
            return self._whole()
        marker_tokens = self._marker_tokens()
        recalled_tokens = self.costs.cache.text(self.wanted.recalled) + 1 if self.wanted.recalled else 0
        room = max(room, marker_tokens) if marker_tokens <= free else room
        selection = Selection(self.units, room=room, marker_tokens=marker_tokens)
        kept = selection.choose(
            known=self.known,
            share=self.policy.pinned_share,
            recalled_tokens=recalled_tokens,
            make_block=self._make_block,
        )
        return self._cut(kept)

    def _whole(self) -> Draft:
        everything = range(len(self.units))
        pinned = frozenset(index for index in everything if self.units[index].is_pinned)
        kept = Kept(pinned=pinned, recent=frozenset(everything) - pinned)
        messages = (*self.head.system, *(turn.message for turn in self.wanted.history), *self.wanted.tail)
        return Draft(messages=messages, prompt_tokens=self._count(messages, kept, 0), kept=kept)

    def _marker_tokens(self) -> int:
        """Tokens of the widest marker that this history can need."""
        text = marker_text(10 ** len(str(len(self.wanted.history))) - 1)
        if self.costs.allows_system_inside:
            return self.costs.cache.message(ChatMessage("system", text))
        return self.costs.cache.text(f"{text}\n\n")

    def _make_block(self, units: Sequence[int], room: int) -> tuple[str, int]:
        """Return what the units name, and its tokens with the line break before it: at most `room`."""
        named = (
            entity
            for index in units
            for known in self.known[self.units[index].first : self.units[index].end]
            for entity in known.entities
        )
        max_tokens = min(room - 1, self.policy.entity_block_tokens)
        block = entity_block(named, max_tokens=max_tokens, count=self.costs.cache.text)
        return block, self.costs.cache.text(block) + 1 if block else 0

    def _cut(self, kept: Kept) -> Draft:
        recalled = self.wanted.recalled if kept.has_recalled else ""
        page = _Page(self.costs, list(self.head.system))
        if kept.is_marked:
            self._write(page, kept, recalled)
        else:
            page.write(self.wanted.tail)
        messages = tuple(page.messages)
        return Draft(
            messages=messages,
            prompt_tokens=self._count(messages, kept, page.marker_tokens),
            marker_tokens=page.marker_tokens,
            kept=kept,
            block=kept.block,
            recalled=recalled,
            is_marked=kept.is_marked and not page.waiting,
        )

    def _write(self, page: _Page, kept: Kept, recalled: str) -> None:
        done, block = 0, kept.block
        for index in sorted((*kept.pinned, *kept.recent, len(self.units))):
            is_last = index == len(self.units)
            first = len(self.wanted.history) if is_last else self.units[index].first
            if first > done:
                quotes = bool(block or recalled)
                page.mark(marker_text(first - done, block=block, recalled=recalled), quotes=quotes)
                block = recalled = ""
            if not is_last:
                done = self.units[index].end
                page.write(turn.message for turn in self.wanted.history[first:done])
        page.write(self.wanted.tail)

    def _count(self, messages: Sequence[ChatMessage], kept: Kept, marker_tokens: int) -> int:
        if not self.costs.is_exact:
            return self.costs.count(messages) + self.extra_tokens
        history = sum([self.units[index].tokens for index in (*kept.pinned, *kept.recent)])
        return self.head.prompt_tokens + history + marker_tokens + self._frame_change(messages)

    def _frame_change(self, messages: Sequence[ChatMessage]) -> int:
        """What the template's own beginning costs other than without history, where that brings a system message."""
        has_system = messages[0].role == "system"
        if has_system == bool(self.head.system):
            return 0
        return self.costs.frame(has_system) - self.costs.frame(bool(self.head.system))
