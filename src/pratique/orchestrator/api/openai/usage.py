"""How many tokens a request may take, and how many it took, as far as that is seen without reading every chunk. Pure.

What is asked for is read from the body, leniently: what the engine would refuse is left for it to refuse. What was
used is what the engine says at the end of its answer; where it does not, streamed events are counted: an engine sends
at most one token more often than one event.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = ["Asked", "JsonTally", "StreamTally", "read_asked", "tally_of"]

_BYTES_PER_TOKEN: Final = 4
_MAX_TOKENS: Final = 2**31
_MAX_JSON_BYTES: Final = 2**20
_TAIL_BYTES: Final = 8192
# In a text of the model the quotes would be escaped, so this is only ever the engine's.
_TOTAL: Final = re.compile(rb'"total_tokens": ?(\d{1,10})\b')


class _Body(msgspec.Struct):
    stream: bool | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None


_decoder = msgspec.json.Decoder(_Body, strict=False)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for."""

    is_stream: bool
    prompt_tokens: int
    """About: from its size."""
    tokens: int
    """At most, with the prompt."""


def read_asked(body: bytes, *, is_json: bool, default_max_tokens: int) -> Asked:
    """Read what a body asks for.

    Args:
        body: as it came.
        is_json: by its content type; others (audio) are not looked into.
        default_max_tokens: counted where the request names no limit.
    """
    fields = _Body()
    if is_json:
        try:
            fields = _decoder.decode(body)
        except msgspec.MsgspecError:
            fields = _Body()
    limits = (fields.max_completion_tokens, fields.max_output_tokens, fields.max_tokens)
    limit = next((found for found in limits if found is not None), default_max_tokens)
    prompt_tokens = len(body) // _BYTES_PER_TOKEN if is_json else 0
    tokens = prompt_tokens + max(1, fields.n or 1) * max(0, limit)
    return Asked(is_stream=bool(fields.stream), prompt_tokens=prompt_tokens, tokens=min(tokens, _MAX_TOKENS))


class JsonTally:
    """An answer in one piece: its own account is in it."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._pieces: list[bytes] = []
        self._num_bytes = 0

    def add(self, chunk: bytes) -> None:
        self._num_bytes += len(chunk)
        if self._num_bytes <= _MAX_JSON_BYTES:
            self._pieces.append(chunk)

    def tokens(self) -> int | None:
        """Return how many tokens it took, None where that cannot be known."""
        if self._num_bytes > _MAX_JSON_BYTES:
            return None
        said = _said(b"".join(self._pieces))
        # Given up before it was answered: the prompt may have been read, the rest is not known.
        return self._asked.prompt_tokens if said is None and not self._pieces else said


class StreamTally:
    """A stream: counted as it passes, and its end looked at once."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._num_events = 0
        self._tail = b""

    def add(self, chunk: bytes) -> None:
        self._num_events += chunk.count(b"data:")
        self._tail = chunk if len(chunk) >= _TAIL_BYTES else self._tail[-_TAIL_BYTES:] + chunk

    def tokens(self) -> int | None:
        """Return how many tokens it took: as the engine said, else counted."""
        said = _said(self._tail)
        return self._asked.prompt_tokens + self._num_events if said is None else said


def tally_of(asked: Asked, *, is_event_stream: bool) -> JsonTally | StreamTally:
    """Return what counts an answer of that kind."""
    return StreamTally(asked) if is_event_stream else JsonTally(asked)


def _said(text: bytes) -> int | None:
    found = _TOTAL.findall(text)
    return int(found[-1]) if found else None
