"""Identifiers: typed names over strings, and the sources that mint them.

An id is a prefix that says what it names and 26 characters of Crockford base 32 after it, as in a ULID: 48 bits of
milliseconds, so that ids sort by creation, then 80 random bits, so that nobody can guess a neighbour's.
"""

from __future__ import annotations

import secrets
from typing import NewType, Protocol

from pratique.core.clock import Clock, SystemClock

__all__ = [
    "ConversationId",
    "GenerationId",
    "IdSource",
    "PrincipalId",
    "RandomIds",
    "SequentialIds",
    "TurnId",
]

ConversationId = NewType("ConversationId", str)
GenerationId = NewType("GenerationId", str)
PrincipalId = NewType("PrincipalId", str)
TurnId = NewType("TurnId", str)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 80


class IdSource(Protocol):
    """Mints identifiers that are unique across replicas."""

    def new(self, prefix: str) -> str: ...


class RandomIds:
    """Ids for production: sortable by time, unguessable."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def new(self, prefix: str) -> str:
        milliseconds = int(self._clock.epoch() * 1000)
        return f"{prefix}_{_base32((milliseconds << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS))}"


class SequentialIds:
    """Ids for tests: readable and the same in every run."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count:026d}"


def _base32(value: int, length: int = 26) -> str:
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(5 * (length - 1), -1, -5))
