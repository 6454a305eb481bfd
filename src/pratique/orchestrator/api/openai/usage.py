"""How many tokens a request may take, and how many it took, as far as that is seen without reading every chunk. Pure.

What is asked for is read from the body, each field for itself and never as less than an engine could read there; what
is no number here is refused, since an engine might find one in it. What was used is what the engine says at the end of
its answer; where it does not, streamed events are counted: an engine sends at most one token more often than one event.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec

from pratique.core.errors import CallerError

__all__ = ["Asked", "JsonTally", "StreamTally", "read_asked", "tally_of"]

_BYTES_PER_TOKEN: Final = 4
_MAX_TOKENS: Final = 2**31
_TAIL_BYTES: Final = 8192
# In a text of the model the quotes would be escaped, so this is only ever the engine's.
_TOTAL: Final = re.compile(rb'"total_tokens": ?(\d{1,10})\b')


class _Body(msgspec.Struct):
    stream: Any = None
    n: Any = None
    best_of: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    prompt: msgspec.Raw = msgspec.Raw(b"null")


_decoder = msgspec.json.Decoder(_Body)
_items = msgspec.json.Decoder(list[msgspec.Raw])


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
        is_json: whether the path takes JSON; others (audio) are not looked into.
        default_max_tokens: counted where the request names no limit.

    Raises:
        CallerError: it is no JSON object, or one of the numbers is none.
    """
    if not is_json or not body:
        return Asked(is_stream=False, prompt_tokens=0, tokens=default_max_tokens)
    try:
        fields = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CallerError(f"Expected a JSON object as the body: {error}.") from error
    # Which of several counts, and what 0 means, is the engine's affair: the most that it could be is reserved.
    limit = max(
        _number(fields.max_tokens, "max_tokens"),
        _number(fields.max_completion_tokens, "max_completion_tokens"),
        _number(fields.max_output_tokens, "max_output_tokens"),
    )
    num_answers = max(1, _number(fields.n, "n"), _number(fields.best_of, "best_of")) * _num_prompts(fields.prompt)
    prompt_tokens = len(body) // _BYTES_PER_TOKEN
    tokens = min(prompt_tokens + num_answers * (limit or default_max_tokens), _MAX_TOKENS)
    return Asked(is_stream=fields.stream in (True, "true", "1"), prompt_tokens=prompt_tokens, tokens=tokens)


def _number(value: Any, name: str) -> int:  # noqa: ANN401 - what JSON has
    """Return a number that is not negative, 0 where there is none."""
    if value is None:
        return 0
    try:
        # As lenient as pydantic, by which engines read them.
        return min(_MAX_TOKENS, max(0, value if isinstance(value, int) else math.ceil(float(value))))
    except (TypeError, ValueError, OverflowError) as error:
        raise CallerError(f"Expected a number in '{name}'.") from error


def _num_prompts(raw: msgspec.Raw) -> int:
    """Return how many there are: of texts or lists of tokens several, of tokens one."""
    if _first(raw) != b"[":
        return 1
    items = _items.decode(raw)
    return len(items) if items and _first(items[0]) in {b'"', b"["} else 1


def _first(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


class JsonTally:
    """An answer in one piece: its own account is at its end."""

    def __init__(self) -> None:
        self._tail = b""

    def add(self, chunk: bytes) -> None:
        self._tail = _tail_of(self._tail, chunk)

    def tokens(self) -> int | None:
        """Return how many tokens it took, None where that cannot be known."""
        return _said(self._tail)


class StreamTally:
    """A stream: counted as it passes, and its end looked at once."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._num_events = 0
        self._tail = b""

    def add(self, chunk: bytes) -> None:
        self._num_events += chunk.count(b"data:")
        self._tail = _tail_of(self._tail, chunk)

    def tokens(self) -> int | None:
        """Return how many tokens it took: as the engine said, else counted."""
        said = _said(self._tail)
        return self._asked.prompt_tokens + self._num_events if said is None else said


def tally_of(asked: Asked, *, is_event_stream: bool) -> JsonTally | StreamTally:
    """Return what counts an answer of that kind."""
    return StreamTally(asked) if is_event_stream else JsonTally()


def _tail_of(before: bytes, chunk: bytes) -> bytes:
    """Return an end that is long enough, without copying more than that of it again."""
    return chunk if len(chunk) >= _TAIL_BYTES else before[-_TAIL_BYTES:] + chunk


def _said(text: bytes) -> int | None:
    found = _TOTAL.findall(text)
    return int(found[-1]) if found else None
