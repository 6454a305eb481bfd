"""The header of a safetensors file. Attacks first: bombs, lies about lengths, holes, overlaps, overflows."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.artifacts.tensors import (
    MAX_HEADER_BYTES,
    HeaderError,
    check_index,
    header_length,
    looks_pickled,
    parse_header,
)

pytestmark = pytest.mark.unit


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def raw(header: object) -> bytes:
    return json.dumps(header).encode()


@pytest.mark.parametrize(
    ("length", "file_bytes", "reason"),
    [
        (1 << 63, 100, "declares a header of 9223372036854775808"),
        ((1 << 64) - 1, 100, "declares a header"),
        (MAX_HEADER_BYTES + 1, MAX_HEADER_BYTES * 2, "expected at most"),
        (93, 100, "ends after 100 bytes"),
    ],
)
def test_a_length_that_lies_is_refused(length: int, file_bytes: int, reason: str) -> None:
    with pytest.raises(HeaderError, match=reason):
        header_length(struct.pack("<Q", length), file_bytes)


def test_a_file_of_seven_bytes_has_no_header() -> None:
    with pytest.raises(HeaderError, match="7 bytes"):
        header_length(b"1234567", 7)


def test_the_longest_header_is_taken() -> None:
    assert header_length(struct.pack("<Q", MAX_HEADER_BYTES), MAX_HEADER_BYTES + 8) == MAX_HEADER_BYTES


@pytest.mark.parametrize(
    ("header", "data_bytes", "reason"),
    [
        ({"a": entry(shape=[3])}, 8, "its type and shape take 12"),
        ({"a": entry(dtype="F99")}, 8, "unknown type 'F99'"),
        ({"a": entry(offsets=[4, 12])}, 12, "expected to begin at 0"),
        ({"a": entry(offsets=[8, 0])}, 8, "expected to begin at 0"),
        ({"a": entry(shape=[1], offsets=[0, 4]), "b": entry(shape=[1], offsets=[8, 12])}, 12, "expected to begin at 4"),
        ({"a": entry(), "b": entry(offsets=[4, 12])}, 12, "expected to begin at 8"),
        ({"a": entry()}, 9, "take 8 bytes, but 9 follow"),
        ({"a": entry()}, 7, "take 8 bytes, but 7 follow"),
        ({}, 1, "take 0 bytes, but 1 follow"),
        ({"a": entry(shape=[2**40, 2**40])}, 8, "take 4835703278458516698824704"),
        ({"a": entry(shape=[2**61, 8])}, 8, "type and shape take"),  # 2^64 elements: nothing, in 64 bits
        ({"a": entry(shape=[-2])}, 8, "malformed"),
        ({"a": entry(shape=[2.0])}, 8, "malformed"),
        ({"a": entry(shape=[1] * 17)}, 8, "malformed"),
        ({"a": entry(offsets=[0])}, 8, "malformed"),
        ({"a": entry(offsets=[0, 2**64])}, 8, "malformed"),
        ({"a": entry() | {"extra": 1}}, 8, "malformed"),
        ({"a": {"dtype": "F32"}}, 8, "malformed"),
        ({"a": entry(), "__metadata__": {"x": 1}}, 8, "malformed"),
        ({"a": entry(dtype="F4", shape=[3], offsets=[0, 1])}, 1, "type and shape take 2"),
    ],
)
def test_a_header_that_lies_is_refused(header: dict[str, Any], data_bytes: int, reason: str) -> None:
    with pytest.raises(HeaderError, match=reason):
        parse_header(raw(header), data_bytes)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b" {}",
        b"null",
        b"{",
        b'{"a":',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b'{"b":' * 100_000,
        b'{"\xff": 1}',
        b'{"__metadata__": ' + b"[" * 100_000,
    ],
    ids=["empty", "list", "space", "null", "open", "cut", "deep-lists", "deep-objects", "no-utf8", "deep-metadata"],
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(HeaderError):
        parse_header(text, 0)


def test_more_tensors_than_any_model_has_are_refused() -> None:
    text = "{" + ",".join(f'"{number}":0' for number in range(200_001)) + "}"
    with pytest.raises(HeaderError, match="has 200001 tensors"):
        parse_header(text.encode(), 0)


def test_a_right_header_gives_the_names() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "二": entry(shape=[1], offsets=[8, 12]),
        "一": entry(),
        "none": entry(shape=[0], offsets=[8, 8]),
        "scalar": entry(dtype="F64", shape=[], offsets=[12, 20]),
        "packed": entry(dtype="F4", shape=[4], offsets=[20, 22]),
    }
    # The format lets writers pad the header with spaces.
    assert parse_header(raw(header) + b"   ", 22) == {"一", "二", "none", "scalar", "packed"}


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(min_value=0, max_value=1 << 63))
def test_no_bytes_raise_anything_else(text: bytes, data_bytes: int) -> None:
    try:
        parse_header(b"{" + text, data_bytes)
    except HeaderError:
        return
    assert data_bytes == 0


SHARDS = {"1.safetensors": frozenset({"a", "b"}), "2.safetensors": frozenset({"c"})}


def index(**weight_map: str) -> bytes:
    return raw({"metadata": {"total_size": 1}, "weight_map": weight_map})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (index(a="1.safetensors", b="1.safetensors", c="3.safetensors"), "'3.safetensors', which is missing"),
        (index(a="1.safetensors", b="1.safetensors", c="../2.safetensors"), "'../2.safetensors', which is missing"),
        (index(a="1.safetensors", c="2.safetensors"), "'b' is not in the index"),
        (index(a="1.safetensors", b="1.safetensors", c="1.safetensors"), "'c' is not in it"),
        (b"{}", "no index"),
        (b'{"weight_map": {"a": 1}}', "no index"),
        (b'{"weight_map": ' + b"[" * 100_000, "no index"),
        (b"\xff", "no index"),
    ],
    ids=["missing", "escape", "extra", "moved", "empty", "types", "deep", "no-utf8"],
)
def test_an_index_that_disagrees_with_the_shards_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(HeaderError, match=reason):
        check_index(text, SHARDS)


def test_a_right_index_passes() -> None:
    check_index(index(a="1.safetensors", b="1.safetensors", c="2.safetensors"), SHARDS)
    check_index(index(c="2.safetensors"), SHARDS)  # what the index does not name, engines do not read


@pytest.mark.parametrize(
    ("first", "is_pickle"),
    [
        (b"\x80\x02}q", True),
        (b"\x80\x05\x95", True),
        (b"PK\x03\x04", True),
        (b"\x80", False),
        (b"\x80\x99", False),
        (b"", False),
    ],
)
def test_pickles_are_known_by_their_beginning(first: bytes, is_pickle: bool) -> None:
    assert looks_pickled(first) is is_pickle
