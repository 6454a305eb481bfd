"""What every format of lock is read into, and what can be wrong with one.

A reader says what stands in a file, and which of it breaks a rule by itself. What is decided over several entries is
decided in `rules`, the same for every format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

__all__ = ["Entry", "Include", "Problem", "Read", "Rule"]

Rule = Literal[
    "direct-url",
    "duplicate",
    "editable",
    "empty",
    "floating-version",
    "include",
    "local-path",
    "malformed",
    "missing-dependency",
    "missing-hash",
    "unknown-option",
    "unlisted-index",
    "vcs",
    "weak-hash",
]


class Problem(msgspec.Struct, frozen=True, order=True):
    """A place that breaks a rule."""

    file: str
    line: int
    """0: the file as a whole."""
    rule: Rule
    message: str

    def __str__(self) -> str:
        """Return it as compilers write: file, line, what."""
        return f"{self.file}:{self.line}: {self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class Entry:
    """One package that a lock pins."""

    file: str
    line: int
    name: str
    """Normalised (PEP 503)."""
    version: str
    marker: str = ""
    """When it is installed (PEP 508); empty: always."""
    hashes: frozenset[str] = frozenset()
    """`algorithm:digits`, of all its files."""
    is_constraint: bool = False
    """Installs nothing by itself."""


@dataclass(frozen=True, slots=True)
class Include:
    """Another file that is part of a lock."""

    line: int
    path: str
    """As written: relative to the file that names it."""
    is_constraint: bool


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    includes: tuple[Include, ...] = ()
