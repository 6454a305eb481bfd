"""What the scanner speaks of: rules, hits in a text, findings in a place, and the whole of a scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Finding", "Hit", "Place", "Report", "Rule"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One kind of secret: `find` is asked at every place where one of the anchors stands.

    Small letters of an anchor stand for capitals too: where case matters, `find` looks.
    """

    id: str
    meaning: str
    advice: str
    anchors: tuple[str, ...]
    find: Callable[[str, int], tuple[int, int] | None]
    """Text and the anchor's position → where the secret begins and ends. Takes bounded time."""
    shows: int = 0
    """So many of the first characters say only of what kind it is, and may be shown."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A secret in a text; lines count from 1."""

    rule: Rule
    start: int
    end: int
    line: int
    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a text is from."""

    path: str
    commit: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A secret in a place, without the secret."""

    rule: str
    meaning: str
    advice: str
    place: Place
    line: int
    shown: str
    fingerprint: str


@dataclass
class Report:
    """What a scan found, and what it could not look at."""

    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    num_texts: int = 0
    num_bytes: int = 0
    num_binaries: int = 0
    num_allowed: int = 0
