"""Token counts of texts that come again: every turn of a conversation is counted once, not once per later turn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

__all__ = ["TextCounts"]

_MAX_CHARACTERS: Final = 8_000_000


class TextCounts:
    """Remembers the newest counts, up to so many characters of text. Safe to use from several threads."""

    def __init__(self, count: Callable[[str], int], *, max_characters: int = _MAX_CHARACTERS) -> None:
        self._count = count
        self._max_characters = max_characters
        self._known: OrderedDict[str, int] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def __call__(self, text: str) -> int:
        """Tokens of a bare text."""
        with self._lock:
            known = self._known.get(text)
            if known is not None:
                self._known.move_to_end(text)
                return known
        num_tokens = self._count(text)
        with self._lock:
            if text not in self._known:
                self._known[text] = num_tokens
                self._characters += len(text)
            while self._characters > self._max_characters:
                dropped, _ = self._known.popitem(last=False)
                self._characters -= len(dropped)
        return num_tokens
