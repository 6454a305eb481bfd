"""Foreign text for people: evidence may hold terminal sequences, and characters that turn text around. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["plain"]

_MAX_CHARACTERS: Final = 2000
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what is not seen: controls, formats (which turn text around), surrogates, line ends."""


def plain(text: str, *, max_characters: int = _MAX_CHARACTERS) -> str:
    """Return text on one line in which every character is seen; the others as escapes. What is too long is cut."""
    cut = text if len(text) <= max_characters else text[:max_characters] + "…"
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(f"\\u{{{ord(one):x}}}" if unicodedata.category(one) in _UNSEEN else one for one in cut)
