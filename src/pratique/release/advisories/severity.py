"""How bad a vulnerability is, by what its own record says, or else the records of the same vulnerability. Pure.

A CVSS vector decides, the highest of several; else the word of the database. What is not understood is "unknown", which
blocks like "critical". Source: OSV schema 1.7, `severity`; CVSS 2.0, 3.x and 4.0, qualitative rating.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from pratique.release.predicates import Severity

__all__ = ["Rated", "Score", "highest", "rate", "settle", "severity_of_word"]

_RANKS: Final[dict[Severity, int]] = {"unknown": -1, "none": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}
_WORDS: Final[dict[str, Severity]] = {
    "none": "none",
    "negligible": "low",
    "unimportant": "low",  # Debian's word for what does not concern its packages as they are built
    "low": "low",
    "moderate": "medium",
    "medium": "medium",
    "high": "high",
    "important": "high",
    "critical": "critical",
}


class Score(msgspec.Struct, frozen=True):
    """A score as a record has it."""

    type: str
    score: str


@dataclass(frozen=True, slots=True)
class Rated:
    """What a record says of its own severity, and which others it names."""

    id: str
    aliases: tuple[str, ...]
    upstream: tuple[str, ...]
    severity: Severity


def rate(scores: Iterable[Score], words: Iterable[str]) -> Severity:
    """Return the highest rating by scores; where none is understood, the highest by the words of the database."""
    by_score = highest(_by_vector(one) for one in scores)
    return by_score if by_score != "unknown" else highest(severity_of_word(word) for word in words)


def severity_of_word(word: str) -> Severity:
    """Return what a database's or a scanner's word means; "unknown" where it is not known here."""
    return _WORDS.get(word.strip().lower(), "unknown")


def _by_vector(score: Score) -> Severity:
    from cvss import CVSS2, CVSS3, CVSS4, CVSSError

    try:
        match score.type:
            case "CVSS_V2":
                return severity_of_word(CVSS2(score.score).severities()[0])
            case "CVSS_V3":
                return severity_of_word(CVSS3(score.score).severities()[0])
            case "CVSS_V4":
                return severity_of_word(CVSS4(score.score).severity)
            case _:
                return severity_of_word(score.score)  # a word, as Ubuntu's; a number is none
    except CVSSError:
        return "unknown"


def highest(severities: Iterable[Severity]) -> Severity:
    """Return the worst of what is known; "unknown" where nothing is."""
    return max(severities, key=_RANKS.__getitem__, default="unknown")


def settle(records: Iterable[Rated]) -> Mapping[str, tuple[Severity, str]]:
    """Say of every record how bad it is, and which record says so; "unknown" and nothing where none does.

    Aliases are the same vulnerability whoever names them, and over several steps: a record without a severity has the
    highest that any of them has. A distribution's advisory without one has the highest of all that it is about, and
    none where one of those is unknown: that one may be the worst.
    """
    records = list(records)
    groups = _Groups()
    for one in records:
        groups.join(one.id, one.aliases)
    best: dict[str, tuple[Severity, str]] = {}
    for one in records:
        group = groups.of(one.id)
        if _RANKS[one.severity] > _RANKS[best.get(group, ("unknown", ""))[0]]:
            best[group] = (one.severity, one.id)
    settled: dict[str, tuple[Severity, str]] = {}
    for one in records:
        if one.severity != "unknown":
            settled[one.id] = (one.severity, one.id)
        elif (group := groups.of(one.id)) in best:
            settled[one.id] = best[group]
        else:
            settled[one.id] = _of_upstream([best.get(groups.of(name), ("unknown", "")) for name in one.upstream])
    return settled


def _of_upstream(found: list[tuple[Severity, str]]) -> tuple[Severity, str]:
    if any(severity == "unknown" for severity, _ in found):
        return "unknown", ""
    return max(found, key=lambda one: _RANKS[one[0]], default=("unknown", ""))


class _Groups:
    """Names that mean the same (union-find)."""

    def __init__(self) -> None:
        self._parents: defaultdict[str, str] = defaultdict(str)

    def of(self, name: str) -> str:
        """Return the name that stands for the group."""
        while parent := self._parents[name]:
            if above := self._parents[parent]:
                self._parents[name] = above
            name = parent
        return name

    def join(self, name: str, others: Iterable[str]) -> None:
        """Say that these mean the same."""
        first = self.of(name)
        for one in others:
            if (other := self.of(one)) != first:
                self._parents[other] = first
