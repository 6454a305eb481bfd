from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.decoding import (
    MalformedError,
    convert_value,
    decode_json,
    decode_msgpack,
    decode_toml,
    parse_instant,
)

pytestmark = pytest.mark.unit

SOURCES = Path(__file__).resolve().parents[3] / "src" / "pratique"
ELSEWHERE = {"decode", "Decoder", "convert", "MsgspecError", "DecodeError", "ValidationError"}
"""Of msgspec: what only `decoding` may use."""


class Thing(msgspec.Struct, frozen=True):
    name: str
    number: int = 0


class Tree(msgspec.Struct, frozen=True):
    children: tuple[Tree, ...] = ()


def nested(depth: int) -> bytes:
    return b'{"children":[' * depth + b"]}" * depth


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b'{"number":1}',
        b'{"name":1}',
        b'{"name":"\xff"}',
        b'{"name":"\\ud800"}',
        b'{"name":"a"} x',
        b'{"name":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_json_that_is_not_what_was_expected_is_one_error(content: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_json(content, Thing)


def test_json_that_is_nested_without_end_is_that_error() -> None:
    with pytest.raises(MalformedError):
        decode_json(nested(100_000), Tree)


def test_json_over_the_bound_is_not_read() -> None:
    with pytest.raises(MalformedError, match="has 12 bytes, at most 11 are read"):
        decode_json(b'{"name":"a"}', Thing, max_bytes=11)
    assert decode_json(b'{"name":"a"}', Thing, max_bytes=12) == Thing("a")


def test_numbers_in_quotes_are_numbers_where_that_is_asked_for() -> None:
    content = b'{"name":"a","number":"7"}'
    assert decode_json(content, Thing, strict=False).number == 7
    with pytest.raises(MalformedError):
        decode_json(content, Thing)


@given(st.binary(max_size=60))
@settings(max_examples=50)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for read in (decode_json, decode_msgpack):
        with contextlib.suppress(MalformedError):
            assert isinstance(read(content, dict[str, Any]), dict)


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x81\xa4name\xa1\xff", msgspec.msgpack.encode({"name": 1})])
def test_messagepack_that_is_not_what_was_expected_is_that_error(content: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_msgpack(content, Thing)
    assert decode_msgpack(msgspec.msgpack.encode({"name": "a"}), Thing) == Thing("a")


@pytest.mark.parametrize("content", [b"a", b"a = '\xff'", b"a = " + b"[" * 100_000, "a = 1\na = 2"])
def test_toml_that_is_none_is_that_error(content: bytes | str) -> None:
    with pytest.raises(MalformedError):
        decode_toml(content)
    with pytest.raises(MalformedError, match="at most 2"):
        decode_toml(b"a=1", max_bytes=2)
    assert decode_toml(b"a = 1") == decode_toml("a = 1") == {"a": 1}


def test_values_that_are_not_what_they_have_to_be_are_that_error() -> None:
    assert convert_value({"name": "a"}, Thing) == Thing("a")
    with pytest.raises(MalformedError, match=r"\$\.name"):
        convert_value({"name": 1}, Thing)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-06-30", "2026-06-30T12:00:00", "2026-13-30T12:00:00Z"])
def test_a_time_without_its_offset_is_none(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_instant(text)
    assert parse_instant("2026-06-30T12:00:00Z") == datetime(2026, 6, 30, 12, tzinfo=UTC)


def decodes_by_itself(source: str) -> list[str]:
    """The places where a module reads by msgspec or by tomllib, and not by `decoding`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            name = ast.unparse(node)
            if (name.startswith("msgspec.") and node.attr in ELSEWHERE) or name.startswith("tomllib."):
                found.append(f"line {node.lineno}: {name}")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"msgspec", "tomllib"}:
            found += [f"line {node.lineno}: {one.name}" for one in node.names if one.name in {*ELSEWHERE, "loads"}]
    return found


def modules() -> list[Path]:
    """All of the room's, and the commands that use it."""
    commands = [file for file in (SOURCES / "cli").glob("*.py") if "pratique.release" in file.read_text("utf-8")]
    own = [file for file in (SOURCES / "release").rglob("*.py") if file.name != "decoding.py"]
    return sorted([*own, *commands])


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(SOURCES)))
def test_bytes_from_outside_are_decoded_in_one_place(file: Path) -> None:
    assert decodes_by_itself(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "msgspec.json.decode(content, type=int)",
        "X = msgspec.json.Decoder(int)",
        "msgspec.msgpack.decode(content)",
        "msgspec.convert(value, int)",
        "try: f()\nexcept msgspec.MsgspecError: pass",
        "try: f()\nexcept (OSError, msgspec.DecodeError): pass",
        "from msgspec import ValidationError",
        "from msgspec.json import decode",
        "tomllib.loads(text)",
    ],
)
def test_that_rule_finds_what_breaks_it(source: str) -> None:
    assert decodes_by_itself(source)


def test_the_rule_looks_at_every_room() -> None:
    rooms = {file.relative_to(SOURCES).parts[1] for file in modules()}
    assert {"signing", "registry", "ledger", "evidence", "policy", "build", "mirror", "gate.py"} <= rooms


@pytest.mark.parametrize("read", [decode_json, decode_msgpack])
def test_the_cause_is_kept(read: Callable[[bytes, type[Thing]], Thing]) -> None:
    with pytest.raises(MalformedError) as caught:
        read(b"", Thing)
    assert isinstance(caught.value.__cause__, msgspec.MsgspecError)
