"""What both lock files in TOML need: the document, and in which line a package stands. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from pratique.release.decoding import MalformedError, decode_toml

__all__ = ["lines_of", "load"]

_HEADER: Final = r"^[ \t]*\[\[[ \t]*{name}[ \t]*\]\]"


def load(text: str) -> dict[str, Any] | str:
    """Return the document, or what is wrong with it."""
    try:
        return decode_toml(text)
    except MalformedError as error:
        return f"is no TOML: {error}"


def lines_of(text: str, name: str, count: int) -> list[int]:
    """Return the lines in which the tables of an array begin; all 0 where that cannot be told from the text.

    TOML readers tell no lines. Headers stand in order, so the n-th header is the n-th table, unless the array is
    written inline or a header stands in a string.
    """
    pattern = re.compile(_HEADER.format(name=re.escape(name)))
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if pattern.match(line)]
    return lines if len(lines) == count else [0] * count
