"""A bounded memory in two generations.

What is asked for is written to the young one; when that is full it becomes the old one, and what was old and not asked
for since is forgotten. A look-up takes no lock and costs no more than a dict's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["Memory"]

K = TypeVar("K")
V = TypeVar("V")

_ENTRY_SIZE: Final = 256
"""What an entry takes beside its own size, so that empty ones are bounded too."""


class Memory(Generic[K, V]):
    """Remembers values for keys, up to a size in units of the caller's. Safe to use from several threads."""

    def __init__(self, *, max_size: int) -> None:
        self._max_young = max_size // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._young_size = 0
        self._lock = threading.Lock()

    def reader(self) -> Callable[[K], V | None]:
        """Return the quickest look-up there is, for use at once: it knows what was asked for lately."""
        return self._young.get

    def get(self, key: K) -> V | None:
        """Return what is remembered, without a promise to remember it for longer."""
        value = self._young.get(key)
        return value if value is not None else self._old.get(key)

    def put(self, key: K, value: V, *, size: int) -> None:
        """Remember a value; one that is larger than half of the memory is not."""
        size += _ENTRY_SIZE
        with self._lock:
            if key in self._young or size > self._max_young:
                return
            if self._young_size + size > self._max_young:
                self._old, self._young, self._young_size = self._young, {}, 0
            self._young[key] = value
            self._young_size += size
