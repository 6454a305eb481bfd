"""Patterns of names: exact, or with `*` for a run of characters inside one segment. Pure.

A pattern is anchored at both ends and compared as it is written: no case folding, no other wildcard, no regular
expression. `*` stands for one or more characters, but never for `/`, `@`, a space or a control character. So a branch
called `evil@refs/heads/main` does not pass for `main`, and `refs/tags/v*` does not reach into another folder.
"""

from __future__ import annotations

import functools
import re
from typing import Final

__all__ = ["is_exact", "matches", "pattern_problem"]

_RUN: Final = r"[^/@\s\x00-\x1f\x7f]+"
_MAX_WILDCARDS: Final = 4
"""Each is a way to guess the rest of a name; more are a sign that a list was meant."""


def is_exact(pattern: str) -> bool:
    """Whether it stands for one name only."""
    return "*" not in pattern


def matches(pattern: str, text: str) -> bool:
    """Whether a name is one that the pattern stands for."""
    return pattern == text if is_exact(pattern) else _compiled(pattern).fullmatch(text) is not None


def pattern_problem(pattern: str) -> str:
    """Say why a pattern cannot be used; empty where it can.

    A pattern must begin with what is known, but for `*@domain`: who only writes an end accepts names that anybody can
    make up before it.
    """
    if not pattern or pattern != pattern.strip() or re.search(r"[\x00-\x1f\x7f]", pattern):
        return "a pattern is empty, or has spaces around it or control characters in it"
    if pattern.startswith("*") and not re.fullmatch(r"\*@[^*@/]+", pattern):
        return "a pattern must not begin with '*', but for '*@' and a domain"
    if "**" in pattern:
        return "'**' means nothing here: '*' stands for a run inside one segment, and never for a '/'"
    if pattern.count("*") > _MAX_WILDCARDS:
        return f"a pattern has more than {_MAX_WILDCARDS} '*'"
    return ""


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(_RUN.join(re.escape(part) for part in pattern.split("*")))
