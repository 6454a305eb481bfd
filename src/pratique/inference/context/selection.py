"""Which units of a history are kept in so much room. Pure; linear in the history.

In strict order: units pinned by the caller, newest first; the first exchange; units rich in entities, newest first
(these two up to a share of the room); then the most recent units, until the first that does not fit. Each is taken only
with room to spare, the markers of the gaps beside it included, so that nothing pushes out what matters more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from pratique.inference.context.counts import RICH_ENTITIES, Known
from pratique.inference.context.parts import Placement
from pratique.inference.context.units import Units

__all__ = ["MAX_UNFIT", "Kept", "MakeBlock", "Selection", "is_rich", "keep_all"]

MakeBlock: TypeAlias = Callable[[Sequence[int], int], tuple[str, int]]
"""Returns the entity block of some units in so much room, and its tokens in the marker."""
MAX_UNFIT: Final = 8
"""So many pinned units that did not fit say more than an entity block holds: older ones are not looked at."""

# Names of this module are read quicker than an enum's members, which counts in the loops below.
_PINNED, _RECENT, _DROPPED = Placement.PINNED, Placement.RECENT, Placement.DROPPED


class Kept(NamedTuple):
    """What became of the units, and what goes into the first marker."""

    placements: Sequence[Placement]
    """Of each unit."""
    pinned_tokens: int
    recent_tokens: int
    block: str = ""
    """What pinned units name that could not be kept."""
    has_recalled: bool = False
    is_marked: bool = True


def is_rich(exchange: Sequence[Known]) -> bool:
    """Whether the messages of an exchange name so much that it should be remembered."""
    named: list[str] = []
    for known in exchange:
        few = known.find_few() if known.few is None else known.few  # each once
        if len(few) >= RICH_ENTITIES:
            return True
        named += few
    return len(named) >= RICH_ENTITIES and len(set(named)) >= RICH_ENTITIES


def keep_all(units: Units) -> Kept:
    """Return what is kept where there is room for everything."""
    pinned_tokens = sum([tokens for tokens, is_pinned in zip(units.tokens, units.pins, strict=True) if is_pinned])
    return Kept(
        placements=[_PINNED if is_pinned else _RECENT for is_pinned in units.pins],
        pinned_tokens=pinned_tokens,
        recent_tokens=sum(units.tokens) - pinned_tokens,
    )


class Selection:
    """Fills the room of one history, step by step."""

    def __init__(self, units: Units, *, room: int, marker_tokens: int) -> None:
        """`marker_tokens` is what the marker of a gap takes at most."""
        self._units = units
        self._room = room
        self._marker_tokens = marker_tokens
        # One more than there are units: what is beside the first and the last one is no gap. At first all is one gap.
        self._placements = [*[_DROPPED] * len(units.tokens), _PINNED]
        self._used = marker_tokens
        self._tokens = 0
        """Of the units that are kept."""

    def choose(self, *, known: Sequence[Known], share: float, recalled_tokens: int, make_block: MakeBlock) -> Kept:
        """Return what is kept of a history that is more than the room."""
        placements = self._placements
        if self._used > self._room:  # not even the marker
            return Kept(placements[:-1], 0, 0, is_marked=False)
        unfit = self._take(self._explicit(), self._room)
        unfit += self._take(self._automatic(known), self._used + int(share * (self._room - self._used)))
        pinned_tokens = self._tokens
        has_recalled = 0 < recalled_tokens <= self._room - self._used
        self._used += recalled_tokens * has_recalled
        block, block_tokens = make_block(unfit, self._room - self._used) if unfit else ("", 0)
        self._used += block_tokens
        self._take_recent()
        gone = [index for index in unfit if placements[index] is _DROPPED]
        if len(gone) < len(unfit):
            block, _ = make_block(gone, block_tokens)
        return Kept(
            placements=placements[:-1],
            pinned_tokens=pinned_tokens,
            recent_tokens=self._tokens - pinned_tokens,
            block=block,
            has_recalled=has_recalled,
        )

    def _newest_first(self) -> range:
        return range(len(self._units.tokens) - 1, -1, -1)

    def _explicit(self) -> list[int]:
        pins = self._units.pins
        return [index for index in self._newest_first() if pins[index]] if True in pins else []

    def _automatic(self, known: Sequence[Known]) -> Iterator[int]:
        """Yield the first exchange and the rich ones, of those that are not pinned anyway."""
        bounds, exchanges, pins = self._units.bounds, self._units.exchanges, self._units.pins
        first = exchanges.index(True) if True in exchanges else len(exchanges)
        if first < len(pins) and not pins[first]:
            yield first
        for index in range(len(exchanges) - 1, first, -1):
            if exchanges[index] and not pins[index] and is_rich(known[bounds[index] : bounds[index + 1]]):
                yield index

    def _take(self, wanted: Iterable[int], limit: int) -> list[int]:
        """Pin each that fits below the limit, in this order; return those that do not, until they are many."""
        unfit: list[int] = []
        for index in wanted:
            if not self._keep(index, limit, _PINNED):
                unfit.append(index)
                if len(unfit) == MAX_UNFIT:
                    break
        return unfit

    def _take_recent(self) -> None:
        for index in self._newest_first():
            if self._placements[index] is _DROPPED and not self._keep(index, self._room, _RECENT):
                break

    def _keep(self, index: int, limit: int, placement: Placement) -> bool:
        """Keep a unit if it fits. It parts the gap that it stands in into two, one or none."""
        placements, marker_tokens = self._placements, self._marker_tokens
        tokens = self._units.tokens[index]
        used = self._used + tokens - marker_tokens
        if placements[index - 1] is _DROPPED:
            used += marker_tokens
        if placements[index + 1] is _DROPPED:
            used += marker_tokens
        if used > limit:
            return False
        self._used = used
        self._tokens += tokens
        placements[index] = placement
        return True
