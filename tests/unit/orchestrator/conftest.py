"""Frames out of the published schema, whole and damaged, by hypothesis.

The schemas use a small part of JSON Schema, read here directly: the generator that reads all of it does not work with
the hypothesis of the lock file.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pratique.orchestrator.protocol.schema import frame_schema

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Frame = dict[str, Any]
NASTY: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**53 + 1,
    10**400,
    1.5,
    1e308,
    "",
    "\x00",
    "../../etc/passwd",
    "x" * 70,
    "\u202e" * 10,
    "🚢" * 100,
    [],
    {},
    [[[[]]]],
    {"type": "ping"},
    {"$ref": "#"},
)


class Fuzz:
    """Strategies over the frame schema."""

    def __init__(self) -> None:
        self._definitions = frame_schema()["$defs"]
        self._collected: dict[int, list[bytes]] = {}

    def frames(self) -> SearchStrategy[Frame]:
        """Frames that the schema allows."""
        return st.one_of([self._of(schema) for schema in self._definitions.values()])

    def messages(self) -> SearchStrategy[bytes]:
        """Frames damaged in their values, their keys or their bytes; a few come out whole."""
        seeds = st.integers(0, 2**32)
        damaged = st.builds(_damage_value, self.frames(), seeds)
        as_bytes = st.one_of(self.frames(), damaged).map(lambda frame: json.dumps(frame).encode())
        return st.one_of(as_bytes, st.builds(_damage_bytes, as_bytes, seeds), st.binary(max_size=64))

    def collect(self, number: int) -> list[bytes]:
        """Return so many messages, the same ones in every run."""
        if number in self._collected:
            return self._collected[number]
        found = self._collected[number] = []

        @settings(max_examples=number // 4, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
        @given(self.messages())
        def gather(message: bytes) -> None:
            # Each also damaged in its bytes, cheaply: making whole frames is what takes the time.
            found.extend([message, *(_damage_bytes(message, len(found) + extra) for extra in (1, 2, 3))])

        gather()
        return found

    def _of(self, schema: dict[str, Any]) -> SearchStrategy[Any]:
        if "anyOf" in schema:
            return st.one_of([self._of(one) for one in schema["anyOf"]])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        kind = schema["type"]
        if kind == "object":
            return st.fixed_dictionaries(
                {name: self._of(schema["properties"][name]) for name in schema["required"]},
                optional={
                    name: self._of(one) for name, one in schema["properties"].items() if name not in schema["required"]
                },
            )
        if kind == "string":
            return _strings(schema)
        low, high = schema.get("minimum"), schema.get("maximum")
        simple: dict[str, SearchStrategy[Any]] = {
            "integer": st.integers(low, high),
            "number": st.floats(low, high),
            "null": st.none(),
        }
        return simple[kind]


def _strings(schema: dict[str, Any]) -> SearchStrategy[str]:
    longest = min(schema.get("maxLength", 100), 200)
    if "pattern" in schema:
        found = st.from_regex(schema["pattern"].replace("$", "\\Z"), fullmatch=True)
        return found.filter(lambda text: schema.get("minLength", 0) <= len(text) <= longest)
    return st.text(st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=longest)


def _damage_value(frame: Frame, seed: int) -> Frame:
    dice = random.Random(seed)  # noqa: S311 - dice
    damaged = dict(frame)
    key = dice.choice(sorted(damaged))
    match dice.randrange(4):
        case 0:
            del damaged[key]
        case 1:
            damaged[dice.choice(["more", "__proto__", "type ", ""])] = dice.choice(NASTY)
        case _:
            damaged[key] = dice.choice(NASTY)
    return damaged


def _damage_bytes(data: bytes, seed: int) -> bytes:
    dice = random.Random(seed)  # noqa: S311 - dice
    place = dice.randrange(len(data) + 1)
    match dice.randrange(6):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + bytes([dice.randrange(256)]) + data[place + 1 :]
        case 2:
            return data[:place] + data[place // 2 :]
        case 3:
            return data.replace(b"{", b'{"type":"ping",', 1)
        case 4:
            return data.replace(b'"', b'"\\ud800', 1)
        case _:
            return data.replace(b":", b":" + b"[" * 2000, 1)


@pytest.fixture(scope="session")
def fuzz() -> Fuzz:
    return Fuzz()
