"""Continuing a reply whose beginning was already sent. Pure.

Tokens carry their leading space: after "The capital of " a model would have to say "France" without one, which it never
learned. So one trailing space of the prefix is held back from the prompt, and taken off the first text that comes.
"""

from __future__ import annotations

__all__ = ["Continuation"]


class Continuation:
    """The prompt's side of a prefix, and the text that goes on after it."""

    def __init__(self, prefix: str) -> None:
        # Two spaces or more are an indentation, which has tokens of its own.
        self._is_holding = len(prefix) > 1 and prefix[-1] == " " and not prefix[-2].isspace()
        self.opening = prefix[:-1] if self._is_holding else prefix
        """What of the prefix goes into the prompt."""

    def follow(self, text: str) -> str:
        """Return what of the next generated text is new after the prefix."""
        if not self._is_holding or not text:
            return text
        self._is_holding = False
        return text.removeprefix(" ")
