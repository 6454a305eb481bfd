"""Bytes from outside, decoded: JSON, MessagePack and TOML, in one place for all rooms. Pure.

- What is longer than the bound is refused unread.
- Whatever is wrong becomes one error. msgspec tells it by three: its own, `UnicodeDecodeError` where text is no UTF-8,
  and `RecursionError` where it is nested without end. Who catches one of them lets the others through.
- Types are looked at by one thread at a time: where two have msgspec (0.22) look at a type for the first time at once,
  the process may crash.

A room turns the error into its own, which says what was expected, and where.
"""

from __future__ import annotations

import threading
import tomllib
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from pratique.release.errors import EvidenceError
from pratique.release.predicates import Instant

__all__ = [
    "MAX_BYTES",
    "MalformedError",
    "convert_value",
    "decode_json",
    "decode_msgpack",
    "decode_toml",
    "parse_instant",
]

MAX_BYTES: Final = 64 * 1024 * 1024
"""The bound where none is given: of the largest document that there is, the SBOM of a large image."""

T = TypeVar("T")

_JSON: Final[dict[tuple[Any, bool], msgspec.json.Decoder[Any]]] = {}
_MSGPACK: Final[dict[Any, msgspec.msgpack.Decoder[Any]]] = {}
_LOOKING: Final = threading.Lock()


class MalformedError(EvidenceError):
    """Bytes that are not what was expected; the message says what is wrong with them."""

    code = "malformed"


def decode_json(
    content: bytes | str | msgspec.Raw, kind: type[T], *, max_bytes: int = MAX_BYTES, strict: bool = True
) -> T:
    """Read JSON.

    Args:
        content: in UTF-8.
        kind: what it has to be; whatever msgspec can read.
        max_bytes: the bound.
        strict: whether numbers in quotes are no numbers.

    Raises:
        MalformedError: it is not that.
    """
    _require_bounded(content, max_bytes)
    decoder = _JSON.get((kind, strict))
    if decoder is None:
        with _LOOKING:
            decoder = _JSON.setdefault((kind, strict), msgspec.json.Decoder(kind, strict=strict))
    try:
        found: T = decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedError(str(error)) from error
    return found


def decode_msgpack(content: bytes, kind: type[T], *, max_bytes: int = MAX_BYTES) -> T:
    """Read MessagePack. Arguments and errors as of `decode_json`."""
    _require_bounded(content, max_bytes)
    decoder = _MSGPACK.get(kind)
    if decoder is None:
        with _LOOKING:
            decoder = _MSGPACK.setdefault(kind, msgspec.msgpack.Decoder(kind))
    try:
        found: T = decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedError(str(error)) from error
    return found


def decode_toml(content: bytes | str, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read TOML.

    Raises:
        MalformedError: it is none.
    """
    _require_bounded(content, max_bytes)
    try:
        return tomllib.loads(content if isinstance(content, str) else content.decode())
    except (tomllib.TOMLDecodeError, UnicodeError, RecursionError) as error:
        raise MalformedError(str(error)) from error


def convert_value(value: object, kind: type[T]) -> T:
    """Return plain values, as TOML has them, as what they have to be.

    Raises:
        MalformedError: they are not that.
    """
    try:
        with _LOOKING:
            return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedError(str(error)) from error


def parse_instant(text: str) -> datetime:
    """Read a time with its offset (RFC 3339).

    Raises:
        MalformedError: it is none.
    """
    moment: datetime = convert_value(text, Instant)
    return moment


def _require_bounded(content: bytes | str | msgspec.Raw, max_bytes: int) -> None:
    if len(content) > max_bytes:
        raise MalformedError(f"it has {len(content)} bytes, at most {max_bytes} are read")
