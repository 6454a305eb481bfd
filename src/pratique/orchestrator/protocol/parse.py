"""Bytes from a client → a frame, or a FrameError that says what is wrong. Nothing else ever comes out.

The types in `frames` decide what is well formed. Added here is what they cannot say: bounds on the bytes, JSON keys
that stand twice (parsers disagree which one counts, so neither does), and identifiers with a line break at their end.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

from pratique.orchestrator.protocol.errors import FrameError, FrameTooLargeError
from pratique.orchestrator.protocol.frames import MAX_TEXT_CHARACTERS, Cancel, ClientFrame, Message, Retry

__all__ = ["MAX_FRAME_BYTES", "parse_body", "parse_frame"]

# Each character of the text takes at most 12 bytes of JSON (a surrogate pair in escapes); the rest is small.
MAX_FRAME_BYTES: Final = 12 * MAX_TEXT_CHARACTERS + 4096

F = TypeVar("F", Message, Retry, Cancel)


def parse_frame(data: bytes | str) -> ClientFrame:
    """Read one WebSocket message.

    Raises:
        FrameError: it is no frame; FrameTooLargeError where it was not even looked at.
    """
    raw = _as_bytes(data)
    try:
        frame = _any_frame().decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"Expected a frame of the chat protocol: {error}.") from error
    _verify_keys_are_unique(raw)
    _verify_ids(frame)
    return frame


def parse_body(kind: type[F], data: bytes) -> F:
    """Read the body of an HTTP request: the same as the frame, without (or with) its `type`.

    Raises:
        FrameError: it is not such a body.
    """
    raw = _as_bytes(data)
    try:
        body: F = _one_kind(kind).decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"Expected the JSON of a '{kind.__name__.lower()}': {error}.") from error
    _verify_keys_are_unique(raw)
    _verify_ids(body)
    return body


@cache
def _any_frame() -> msgspec.json.Decoder[ClientFrame]:
    return msgspec.json.Decoder(ClientFrame)


@cache
def _one_kind(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _as_bytes(data: bytes | str) -> bytes:
    if len(data) > MAX_FRAME_BYTES:
        raise FrameTooLargeError(f"A frame has at most {MAX_FRAME_BYTES} bytes; this one has {len(data)}.")
    try:
        return data.encode() if isinstance(data, str) else data
    except UnicodeEncodeError as error:
        raise FrameError("Expected text that can be written in UTF-8; found half of a surrogate pair.") from error


def _verify_keys_are_unique(raw: bytes) -> None:
    def refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FrameError("Expected each key once; at least one stands twice.")
        return found

    json.loads(raw, object_pairs_hook=refuse_doubles)


def _verify_ids(frame: ClientFrame) -> None:
    # In Python's patterns `$` also matches before a line break at the end; in JSON Schema's it does not.
    for field in ("client_message_id", "conversation_id", "generation_id"):
        value = getattr(frame, field, None)
        if isinstance(value, str) and value.endswith("\n"):
            raise FrameError(f"Expected an identifier without a line break - at `$.{field}`.")
