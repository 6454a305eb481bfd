"""Our encoder against botocore's decoder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.sagemaker.eventstream import encode_exception, encode_message, encode_part

pytestmark = pytest.mark.unit

headers = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=20), max_size=3)
payloads = st.binary(max_size=300)


def decoded(*chunks: bytes) -> list[tuple[dict[str, str], bytes]]:
    buffer: Any = EventStreamBuffer()  # its stubs have headers as numbers
    found = []
    for chunk in chunks:
        buffer.add_data(chunk)
        found += [(message.headers, message.payload) for message in buffer]
    return found


@settings(max_examples=25)
@given(st.lists(st.tuples(headers, payloads), min_size=1, max_size=4), st.integers(1, 64))
def test_what_is_encoded_is_decoded_wherever_the_bytes_are_split(
    messages: list[tuple[dict[str, str], bytes]], size: int
) -> None:
    raw = b"".join(encode_message(named, payload) for named, payload in messages)
    assert decoded(*(raw[place : place + size] for place in range(0, len(raw), size))) == messages


@settings(max_examples=50)
@given(payloads, st.data())
def test_a_flipped_bit_is_always_noticed(payload: bytes, data: st.DataObject) -> None:
    raw = bytearray(encode_part(payload))
    # Past the lengths: a length that was raised only makes the decoder wait.
    place = data.draw(st.integers(8, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ChecksumMismatch):
        decoded(bytes(raw))


@pytest.mark.parametrize("payload", [b"", b"\x00", "日本語😀".encode()[:-1], b"x" * 200_000])
def test_a_part_carries_any_bytes(payload: bytes) -> None:
    [(named, carried)] = decoded(encode_part(payload))
    assert carried == payload
    assert named == {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }


def test_an_exception_names_its_kind() -> None:
    [(named, body)] = decoded(encode_exception("ModelStreamError", {"Message": "切れた", "ErrorCode": "StreamBroken"}))
    assert (named[":message-type"], named[":exception-type"]) == ("exception", "ModelStreamError")
    assert json.loads(body) == {"Message": "切れた", "ErrorCode": "StreamBroken"}


@pytest.mark.parametrize("named", [{"n" * 256: "v"}, {"n": "v" * 65_536}, {"日" * 100: "v"}])
def test_a_header_that_does_not_fit_its_length_is_refused(named: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="at most 255 and 65535"):
        encode_message(named, b"")
