"""What a ledger asks of the place it is kept in. Stores keep rows and judge nothing: `verified` does.

An entry and the head that it makes are one row: neither is ever there without the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pratique.release.errors import ConflictError
from pratique.release.ledger.interface import Entry

__all__ = ["LedgerStore", "Row", "TakenError"]


class TakenError(ConflictError):
    """Somebody else added an entry at that index first."""

    code = "ledger_contended"


@dataclass(frozen=True, slots=True)
class Row:
    """An entry, and the signed head of the ledger that ends with it."""

    entry: Entry
    bundle: bytes


class LedgerStore(Protocol):
    """Rows by index. Safe to use from several threads.

    Every method raises UnavailableError where the store cannot be asked, and LedgerBrokenError where what it holds
    cannot be read.
    """

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """Go through the rows from one index to before another."""
        ...

    def rows_at(self, indices: Sequence[int]) -> Iterator[Row]:
        """Go through the rows at these indices, in this order; those that are not there are left out."""
        ...

    def size(self) -> int:
        """Return the index behind the last row."""
        ...

    def exclusive(self) -> AbstractContextManager[object]:
        """Keep others from adding while the body runs, where the store can; `add` is safe without."""
        ...

    def add(self, row: Row) -> None:
        """Write a row durably, as a whole.

        Raises:
            TakenError: there is one at that index.
        """
        ...
