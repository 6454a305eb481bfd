"""Which units of a history are kept in so much room. Pure; linear in the history.

In strict order: units pinned by the caller, newest first; the first exchange; units rich in entities, newest first
(these two up to a share of the room); then the most recent units, until the first that does not fit. Each is taken only
with room to spare, the markers of the gaps beside it included, so that nothing pushes out what matters more.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from pratique.inference.context.counts import Known
from pratique.inference.context.units import Unit

__all__ = ["MAX_UNFIT", "RICH_ENTITIES", "Kept", "MakeBlock", "Selection", "is_rich"]

MakeBlock: TypeAlias = Callable[[Sequence[int], int], tuple[str, int]]
"""Returns the entity block of some units in so much room, and its tokens in the marker."""
RICH_ENTITIES: Final = 3
"""Distinct entities from which an exchange counts as rich; the tests hold the data that it was chosen by."""

MAX_UNFIT: Final = 8
"""So many pinned units that did not fit say more than an entity block holds: older ones are not looked at."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Indexes of the units that are kept, and what goes into the first marker."""

    pinned: frozenset[int] = frozenset()
    recent: frozenset[int] = frozenset()
    block: str = ""
    """What pinned units name that could not be kept."""
    has_recalled: bool = False
    is_marked: bool = True


def is_rich(unit: Unit, known: Sequence[Known]) -> bool:
    """Whether an exchange names so much that it should be remembered."""
    num_named = 0
    for place in range(unit.first, unit.end):
        num_here = len(known[place].entities)  # each once
        if num_here >= RICH_ENTITIES:
            return True
        num_named += num_here
    if num_named < RICH_ENTITIES:
        return False
    return len({entity for place in range(unit.first, unit.end) for entity in known[place].entities}) >= RICH_ENTITIES


class Selection:
    """Fills the room of one history, step by step."""

    def __init__(self, units: Sequence[Unit], *, room: int, marker_tokens: int) -> None:
        """`marker_tokens` is what the marker of a gap takes at most."""
        self._units = units
        self._room = room
        self._marker_tokens = marker_tokens
        # Sorted indexes, between two that stand for the ends. At first there is one gap over everything.
        self._kept = [-1, len(units)]
        self._used = marker_tokens

    def choose(self, *, known: Sequence[Known], share: float, recalled_tokens: int, make_block: MakeBlock) -> Kept:
        """Return what is kept of a history that is more than the room."""
        if self._used > self._room:  # not even the marker
            return Kept(is_marked=False)
        explicit = [index for index in self._newest_first() if self._units[index].is_pinned]
        unfit = self._take(explicit, self._room)
        unfit += self._take(self._automatic(known), self._used + int(share * (self._room - self._used)))
        pinned = frozenset(self._kept[1:-1])
        has_recalled = 0 < recalled_tokens <= self._room - self._used
        self._used += recalled_tokens * has_recalled
        block, block_tokens = make_block(unfit, self._room - self._used) if unfit else ("", 0)
        self._used += block_tokens
        recent = self._take_recent()
        gone = [index for index in unfit if index not in recent]
        if len(gone) < len(unfit):
            block, _ = make_block(gone, block_tokens)
        return Kept(
            pinned=pinned,
            recent=frozenset(recent),
            block=block,
            has_recalled=has_recalled,
        )

    def _newest_first(self) -> range:
        return range(len(self._units) - 1, -1, -1)

    def _automatic(self, known: Sequence[Known]) -> Iterator[int]:
        """Yield the first exchange and the rich ones, of those that are not pinned anyway."""
        units = self._units
        first = next((index for index, unit in enumerate(units) if unit.is_exchange), -1)
        if first >= 0 and not units[first].is_pinned:
            yield first
        for index in self._newest_first():
            unit = units[index]
            if index > first and unit.is_exchange and not unit.is_pinned and is_rich(unit, known):
                yield index

    def _take(self, wanted: Iterable[int], limit: int) -> list[int]:
        """Keep each that fits below the limit, in this order; return those that do not, until they are many."""
        unfit: list[int] = []
        for index in wanted:
            if not self._keep(index, limit):
                unfit.append(index)
                if len(unfit) == MAX_UNFIT:
                    break
        return unfit

    def _take_recent(self) -> set[int]:
        taken: set[int] = set()
        at = len(self._kept) - 2  # the newest that is kept already
        for index in self._newest_first():
            if self._kept[at] == index:
                at -= 1
            elif self._keep(index, self._room):
                taken.add(index)
            else:
                break
        return taken

    def _keep(self, index: int, limit: int) -> bool:
        """Keep a unit if it fits. It parts the gap that it stands in into two, one or none."""
        used = self._used + self._units[index].tokens
        if used - self._marker_tokens > limit:
            return False
        at = bisect(self._kept, index)
        num_gaps = (index - self._kept[at - 1] > 1) + (self._kept[at] - index > 1)
        used += self._marker_tokens * (num_gaps - 1)
        if used > limit:
            return False
        self._used = used
        self._kept.insert(at, index)
        return True
