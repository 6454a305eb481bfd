"""Where the rules' anchors stand in a text: one pass for all of them, by one pattern.

The pattern stops at the rarest character of each anchor, its pivot, goes on through what follows it as a tree, and
looks back in the end. That is what Python's `re` does quickly: it knows the characters to stop at, and takes a branch
by its first character. Small letters of an anchor stand for capitals too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pratique.core.secrets.model import Rule

    _Ending = tuple[tuple[str, ...], str]

__all__ = ["AnchorFinder"]

_RARE: Final = "JzqxkKwBS:vghmc"
"""From the rarest in code and prose on. The fewer and the rarer the pivots, the faster."""


class AnchorFinder:
    """Finds the places of some rules' anchors."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        words = {anchor for rule in rules for anchor in rule.anchors}
        # Where one begins with another the shorter is enough: it leads to the rules of both.
        heads = [word for word in sorted(words) if not word.startswith(tuple(words - {word}))]
        self._rules = rules
        self._led_to: dict[str, tuple[int, list[Rule]]] = {}
        endings: list[_Ending] = []
        for head in heads:
            led_to = [rule for rule in rules if any(anchor.startswith(head) for anchor in rule.anchors)]
            for ending in _endings(head):
                name = f"a{len(endings)}"
                self._led_to[name] = _pivot(head), led_to
                endings.append((ending, f"(?P<{name}>(?<={_any_case(head)}))"))
        self._pattern = re.compile(_tree(endings))

    def find(self, text: str) -> list[tuple[Rule, list[int]]]:
        """Return where each rule is to look, rules in their order and places in theirs."""
        places: dict[str, list[int]] = {}
        found = self._pattern.search(text)
        while found:
            before, rules = self._led_to[found.lastgroup or ""]
            for rule in rules:
                places.setdefault(rule.id, []).append(found.start() - before)
            # Anchors may overlap: the next may begin in this one.
            found = self._pattern.search(text, found.start() + 1)
        return [(rule, sorted(places[rule.id])) for rule in self._rules if rule.id in places]


def _pivot(word: str) -> int:
    return min(range(len(word)), key=lambda at: _RARE.find(word[at]) % (len(_RARE) + 1))


def _endings(word: str) -> Iterator[tuple[str, ...]]:
    """Return the steps from the pivot on, for each case of the pivot: a set in the first place would be slow."""
    at = _pivot(word)
    for pivot in sorted({word[at], word[at].upper()}):
        yield re.escape(pivot), *map(_any_case, word[at + 1 :])


def _any_case(word: str) -> str:
    return "".join(f"[{char}{char.upper()}]" if char.islower() else re.escape(char) for char in word)


def _tree(endings: Sequence[_Ending]) -> str:
    branches: dict[str, list[_Ending]] = {}
    parts = [look_back for steps, look_back in endings if not steps]
    for steps, look_back in endings:
        if steps:
            branches.setdefault(steps[0], []).append((steps[1:], look_back))
    parts += [step + _tree(rest) for step, rest in branches.items()]
    return f"(?:{'|'.join(parts)})"
