"""The framing `application/vnd.amazon.eventstream`. Pure.

A message is: total length, length of the headers, CRC-32 of those two; the headers; the payload; CRC-32 of all before
it. Numbers are big-endian 32-bit. A header is a name (8-bit length), a type (7: string) and a value (16-bit length).
Source: the Smithy specification "Amazon Event Stream", and botocore's decoder, which the tests hold this against.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final
from zlib import crc32

import msgspec

__all__ = ["CONTENT_TYPE", "encode_exception", "encode_message", "encode_part"]

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"
_STRING: Final = 7
_PRELUDE_BYTES: Final = 12
_CRC_BYTES: Final = 4
_PART_HEADERS: Final = {
    ":event-type": "PayloadPart",
    ":content-type": "application/octet-stream",
    ":message-type": "event",
}


def encode_part(payload: bytes) -> bytes:
    """Return some bytes of the model's answer as a PayloadPart. Where a part ends says nothing about its content."""
    return encode_message(_PART_HEADERS, payload)


def encode_exception(kind: str, body: Mapping[str, object]) -> bytes:
    """Return an error that ends the stream; `kind` is a modelled name, `body` its members."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return encode_message(headers, msgspec.json.encode(body))


def encode_message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message.

    Raises:
        ValueError: a header's name has more than 255 bytes, or its value more than 65,535.
    """
    block = b"".join(_encode_header(name, value) for name, value in headers.items())
    total_bytes = _PRELUDE_BYTES + len(block) + len(payload) + _CRC_BYTES
    prelude = struct.pack("!II", total_bytes, len(block))
    head = prelude + struct.pack("!I", crc32(prelude)) + block
    return head + payload + struct.pack("!I", crc32(payload, crc32(head)))


def _encode_header(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.encode()
    try:
        return struct.pack("!B", len(raw_name)) + raw_name + struct.pack("!BH", _STRING, len(raw_value)) + raw_value
    except struct.error as error:
        raise ValueError(
            f"The header '{name[:40]}' has a name of {len(raw_name)} and a value of {len(raw_value)} bytes; "
            "at most 255 and 65535 can be sent."
        ) from error
