"""A history in units: what belongs together, what is pinned, and what each takes."""

from __future__ import annotations

import itertools

import pytest

from pratique.inference.context.parts import Turn
from pratique.inference.context.units import units_of
from pratique.inference.engines.interface import ChatMessage

pytestmark = pytest.mark.unit


def test_a_unit_is_an_exchange() -> None:
    shape = "a uatta s u a us s u".replace(" ", "")
    names = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}
    history = [Turn(ChatMessage(names[letter], "x")) for letter in shape]  # type: ignore[arg-type]  # from a literal table
    units = units_of(history, range(len(history)))
    assert [shape[first:end] for first, end in itertools.pairwise(units.bounds)] == [
        "a",
        "uatta",
        "s",
        "ua",
        "uss",
        "u",
    ]
    assert units.sizes == [1, 5, 1, 2, 3, 1]
    assert units.pins == [False, False, True, False, True, False]
    assert units.exchanges == [False, True, False, True, True, True]
    assert units.tokens == [0, 1 + 2 + 3 + 4 + 5, 6, 7 + 8, 9 + 10 + 11, 12]
    assert units_of([], []) == ([0], [], [], [], [])


def test_a_pin_is_the_whole_units() -> None:
    history = [Turn(ChatMessage(role, "x"), is_pinned=role == "tool") for role in ("user", "assistant", "tool", "user")]
    assert units_of(history, [1] * 4).pins == [True, False]
