"""What stands in the prompt where turns were left out, and what the user is told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["entity_block", "marker_text", "notice_text"]

_BLOCK_HEAD: Final = "Context from earlier: "
_SLACK: Final = 8
"""Tokens that a list may take less than its parts do."""


def marker_text(num_turns: int, *, block: str = "", recalled: str = "") -> str:
    """Return the marker of one gap; the first also carries what was kept of all the turns that are gone."""
    noun = "turn" if num_turns == 1 else "turns"
    lines = [f"[{num_turns} earlier {noun} left out here]", block, recalled]
    return "\n".join([line for line in lines if line])


def entity_block(entities: Iterable[str], *, max_tokens: int, count: Callable[[str], int]) -> str:
    """Return "Context from earlier: …" of as many entities as fit, "" where none does; the first matter most."""
    if max_tokens <= 0:
        return ""
    chosen: dict[str, None] = {}
    spent = count(_BLOCK_HEAD)
    for entity in entities:
        if entity in chosen:
            continue
        spent += count(f"{entity}; ")
        if spent > max_tokens + _SLACK:
            break
        chosen[entity] = None
    while chosen and count(text := _BLOCK_HEAD + "; ".join(chosen)) > max_tokens:
        chosen.popitem()
    return text if chosen else ""


def notice_text(turns_dropped: int) -> str:
    """Return what a person is told when a long conversation was not read whole."""
    messages = "message was" if turns_dropped == 1 else "messages were"
    return (
        f"This conversation is long: {turns_dropped} earlier {messages} left out for this answer. "
        "Please repeat what matters from them."
    )
