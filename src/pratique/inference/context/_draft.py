"""The history's part of a prompt: units chosen for so much room, and markers where others were. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pratique.inference.context._head import Head
from pratique.inference.context.counts import Costs, Known
from pratique.inference.context.marker import entity_block, marker_text
from pratique.inference.context.parts import Placement, Wanted
from pratique.inference.context.selection import Kept, Selection, keep_all
from pratique.inference.context.units import Units
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.settings import BudgetSettings

__all__ = ["Draft", "History"]


class Draft(NamedTuple):
    """A whole prompt that may still be too long."""

    messages: tuple[ChatMessage, ...]
    prompt_tokens: int
    kept: Kept
    turns_dropped: int = 0
    marker_tokens: int = 0
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

    def write(self, messages: Sequence[ChatMessage]) -> None:
        begin = len(self.messages)
        self.messages += messages
        if self.waiting:
            place = next(
                (place for place in range(begin, len(self.messages)) if self.messages[place].role == "user"), None
            )
            if place is not None:
                self.messages[place] = self._marked(self.messages[place])

    def _marked(self, message: ChatMessage) -> ChatMessage:
        marked = ChatMessage(message.role, "\n\n".join((*self.waiting, message.content)), message.extra)
        self.marker_tokens += self.costs.cache.message(marked) - self.costs.cache.message(message)
        self.waiting.clear()
        return marked

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
    messages: Sequence[ChatMessage]
    units: Units
    known: Sequence[Known]
    """Of every message, as are the tokens."""
    tokens: tuple[int, ...]
    costs: Costs
    policy: BudgetSettings
    extra_tokens: int

    def draft(self, room: int, free: int) -> Draft:
        """Return a prompt with about `room` tokens of history; the marker alone may use all that is `free`."""
        if not self.messages or sum(self.units.tokens) <= room:
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
        kept = keep_all(self.units)
        messages = (*self.head.system, *self.messages, *self.wanted.tail)
        return Draft(messages, self._count(messages, kept, 0), kept)

    def _marker_tokens(self) -> int:
        """Tokens of the widest marker that this history can need."""
        text = marker_text(10 ** len(str(len(self.messages))) - 1)
        if self.costs.allows_system_inside:
            return self.costs.cache.message(ChatMessage("system", text))
        return self.costs.cache.text(f"{text}\n\n")

    def _make_block(self, units: Sequence[int], room: int) -> tuple[str, int]:
        """Return what the units name, and its tokens with the line break before it: at most `room`."""
        bounds = self.units.bounds
        named = (
            entity
            for index in units
            for known in self.known[bounds[index] : bounds[index + 1]]
            for entity in known.entities
        )
        max_tokens = min(room - 1, self.policy.entity_block_tokens)
        block = entity_block(named, max_tokens=max_tokens, count=self.costs.cache.text)
        return block, self.costs.cache.text(block) + 1 if block else 0

    def _cut(self, kept: Kept) -> Draft:
        recalled = self.wanted.recalled if kept.has_recalled else ""
        page = _Page(self.costs, list(self.head.system))
        gaps = self._gaps(kept)
        if kept.is_marked:
            self._write(page, gaps, block=kept.block, recalled=recalled)
        page.write(self.wanted.tail)
        messages = tuple(page.messages)
        return Draft(
            messages=messages,
            prompt_tokens=self._count(messages, kept, page.marker_tokens),
            kept=kept,
            turns_dropped=sum([end - first for first, end in gaps]),
            marker_tokens=page.marker_tokens,
            recalled=recalled,
            is_marked=kept.is_marked and not page.waiting,
        )

    def _gaps(self, kept: Kept) -> list[tuple[int, int]]:
        """Return where messages are missing: from one up to another."""
        gaps: list[tuple[int, int]] = []
        first, dropped = -1, Placement.DROPPED
        for begin, placement in zip(self.units.bounds, kept.placements, strict=False):
            if placement is not dropped and first >= 0:
                gaps.append((first, begin))
                first = -1
            elif placement is dropped and first < 0:
                first = begin
        return [*gaps, (first, len(self.messages))] if first >= 0 else gaps

    def _write(self, page: _Page, gaps: Sequence[tuple[int, int]], *, block: str, recalled: str) -> None:
        """Write the history, the first marker with what was kept of all the turns that are gone."""
        done = 0
        for first, end in gaps:
            page.write(self.messages[done:first])
            page.mark(marker_text(end - first, block=block, recalled=recalled), quotes=bool(block or recalled))
            block = recalled = ""
            done = end
        page.write(self.messages[done:])

    def _count(self, messages: Sequence[ChatMessage], kept: Kept, marker_tokens: int) -> int:
        if not self.costs.is_exact:
            return self.costs.count(messages) + self.extra_tokens
        history = kept.pinned_tokens + kept.recent_tokens
        return self.head.prompt_tokens + history + marker_tokens + self._frame_change(messages)

    def _frame_change(self, messages: Sequence[ChatMessage]) -> int:
        """What the template's own beginning costs other than without history, where that brings a system message."""
        has_system = messages[0].role == "system"
        if has_system == bool(self.head.system):
            return 0
        return self.costs.frame(has_system) - self.costs.frame(bool(self.head.system))
