"""A ledger's rows in memory, for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from pratique.release.ledger.store import Row, TakenError

__all__ = ["MemoryStore"]


class MemoryStore:
    """Rows that several ledgers of a process may share."""

    def __init__(self) -> None:
        self.kept: list[Row] = []
        """Open to tests, which change what nobody may change."""
        self._lock = threading.RLock()

    def rows(self, start: int, end: int) -> Iterator[Row]:
        with self._lock:
            return iter(self.kept[start:end])

    def rows_at(self, indices: Sequence[int]) -> Iterator[Row]:
        with self._lock:
            return iter([self.kept[index] for index in indices if index < len(self.kept)])

    def size(self) -> int:
        with self._lock:
            return len(self.kept)

    def exclusive(self) -> AbstractContextManager[object]:
        return self._lock

    def add(self, row: Row) -> None:
        with self._lock:
            if row.entry.index != len(self.kept):
                raise TakenError(f"expected no entry {row.entry.index}, got {len(self.kept)} entries")
            self.kept.append(row)
