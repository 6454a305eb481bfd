"""Names of projects: their normal form, whose they are, and which known one a new one looks like. Pure.

A name looks like another where a person takes one for the other: a letter more, less, changed or swapped; other
separators; digits for letters; a prefix or suffix of habit. Where that is intended, the approval says so.
Sources: PEP 503 and 426 (names); the patterns are those of published studies of typosquatting in package indexes.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Final

from packaging.utils import canonicalize_name

__all__ = ["is_name", "is_private", "looks_like", "normal"]

_NAME: Final = re.compile(r"[A-Z0-9](?:[A-Z0-9._-]*[A-Z0-9])?", re.IGNORECASE | re.ASCII)
_MAX_NAME: Final = 100
_LOOKS: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s"})
_HABITS: Final = re.compile(r"^(?:python|py|the|lib)-?|-?(?:python|py|lib|dev|new|latest|official|sdk|\d+)$")
_SHORTEST: Final = 4
"""Shorter names are all alike by letters."""
_LONG: Final = 9
"""From so many letters on two may differ."""


def is_name(name: str) -> bool:
    """Whether a project may be named so."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def normal(name: str) -> str:
    """Return a name's normal form."""
    return str(canonicalize_name(name))


def is_private(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of ours, which nobody else may give us files for. Patterns may have `*`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def looks_like(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that this one may be taken for, the nearest first; None: none, or it is known itself."""
    from rapidfuzz.distance import OSA

    candidates = sorted(set(known))
    if name in candidates:
        return None
    found = [
        (0 if _bare(name) == _bare(other) else OSA.distance(_bare(name), _bare(other)), other)
        for other in candidates
        if _is_near(name, other, OSA.distance(_bare(name), _bare(other)))
    ]
    return min(found)[1] if found else None


def _is_near(name: str, other: str, distance: int) -> bool:
    if distance == 0 or _without_habits(name) == _without_habits(other):
        return True
    shorter = min(len(_bare(name)), len(_bare(other)))
    return shorter >= _SHORTEST and distance <= (2 if shorter >= _LONG else 1)


def _bare(name: str) -> str:
    return name.replace("-", "").translate(_LOOKS).replace("rn", "m").replace("vv", "w")


def _without_habits(name: str) -> str:
    short = _HABITS.sub("", name)
    return _bare(short) if len(short) >= _SHORTEST else _bare(name)
