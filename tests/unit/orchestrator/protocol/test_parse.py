"""Bytes become frames or typed errors, and nothing else, whatever they are."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pratique.core.errors import CallerError, PratiqueError
from pratique.orchestrator.protocol.encode import decode_generation_event, encode_event, event_type
from pratique.orchestrator.protocol.errors import FrameError, FrameTooLargeError, event_error_of, http_status_of
from pratique.orchestrator.protocol.events import Heartbeat, Token
from pratique.orchestrator.protocol.frames import MAX_TEXT_CHARACTERS, Cancel, Message, Ping, Resume, Retry
from pratique.orchestrator.protocol.parse import MAX_FRAME_BYTES, parse_body, parse_frame
from pratique.orchestrator.protocol.schema import frame_schema

pytestmark = pytest.mark.unit

BAD = {
    "empty": b"",
    "null": b"null",
    "number": b"1",
    "array": b"[]",
    "no type": b"{}",
    "unknown type": b'{"type":"admin"}',
    "type of another type": b'{"type":["ping"]}',
    "deeply nested": b'{"type":"ping","nonce":' + b"[" * 100_000,
    "deeply nested and closed": b"[" * 50_000 + b"]" * 50_000,
    "huge integer": b'{"type":"resume","conversation_id":"c_1","last_seq":' + b"9" * 5000 + b"}",
    "negative": b'{"type":"resume","conversation_id":"c_1","last_seq":-1}',
    "beyond 2**53": b'{"type":"resume","conversation_id":"c_1","last_seq":9007199254740993}',
    "not a number": b'{"type":"message","client_message_id":"message-1","text":"x","temperature":NaN}',
    "infinite": b'{"type":"message","client_message_id":"message-1","text":"x","temperature":1e999}',
    "lone surrogate": b'{"type":"ping","nonce":"\\ud800"}',
    "key twice": b'{"type":"ping","nonce":"a","nonce":"b"}',
    "type twice": b'{"type":"ping","type":"ping"}',
    "key twice, escaped": b'{"type":"ping","nonce":"a","n\\u006fnce":"b"}',
    "unknown key": b'{"type":"ping","nonce":"","more":1}',
    "not UTF-8": b'{"type":"ping","nonce":"\xff\xfe"}',
    "bytes": b"\x00\x01\x02\xff",
    "byte order mark": b'\xef\xbb\xbf{"type":"ping"}',
    "two frames": b'{"type":"ping"}{"type":"ping"}',
    "cut": b'{"type":"pi',
    "single quotes": b"{'type':'ping'}",
    "id with a line break": b'{"type":"cancel","generation_id":"gen_1\\n"}',
    "id that climbs": b'{"type":"cancel","generation_id":"../../x"}',
    "short message id": b'{"type":"message","client_message_id":"short","text":"x"}',
    "no text": b'{"type":"message","client_message_id":"message-1","text":""}',
    "too much text": b'{"type":"message","client_message_id":"message-1","text":"'
    + b"x" * (MAX_TEXT_CHARACTERS + 1)
    + b'"}',
    "float for an integer": b'{"type":"message","client_message_id":"message-1","text":"x","max_tokens":1.5}',
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_malformed_frame_is_a_frame_error(data: bytes) -> None:
    with pytest.raises(FrameError) as refused:
        parse_frame(data)
    assert refused.value.code == "invalid_request"
    assert len(refused.value.message) < 500
    with pytest.raises(FrameError):
        parse_body(Message, data)


@pytest.mark.parametrize("text", ['{"type":"ping","nonce":"\ud800"}', "\udfff"])
def test_text_with_half_a_surrogate_pair(text: str) -> None:
    with pytest.raises(FrameError):
        parse_frame(text)


def test_too_many_bytes_are_not_looked_at() -> None:
    with pytest.raises(FrameTooLargeError) as refused:
        parse_frame(b"x" * (MAX_FRAME_BYTES + 1))
    assert refused.value.code == "too_large"


def test_longest_text_fits_however_it_is_written() -> None:
    for text in ("x" * MAX_TEXT_CHARACTERS, "🚢" * MAX_TEXT_CHARACTERS, "\x01" * MAX_TEXT_CHARACTERS):
        frame = {"type": "message", "client_message_id": "message-1", "text": text}
        parsed = parse_frame(json.dumps(frame, ensure_ascii=True))
        assert isinstance(parsed, Message)
        assert parsed.text == text


def test_each_frame_is_read() -> None:
    assert parse_frame(b'{"type":"ping"}') == Ping()
    assert parse_frame('{"type":"cancel","generation_id":"gen_1"}') == Cancel(generation_id="gen_1")
    assert parse_frame(b'{"type":"resume","conversation_id":"c_1","last_seq":3}') == Resume(
        conversation_id="c_1", last_seq=3
    )
    retry = {"conversation_id": "c_1", "client_message_id": "message-1"}
    assert parse_frame(json.dumps({**retry, "type": "retry"})) == Retry(**retry)


def test_body_may_say_its_type_but_no_other() -> None:
    body = b'{"generation_id":"gen_1"}'
    assert parse_body(Cancel, body) == Cancel(generation_id="gen_1")
    assert parse_body(Cancel, body[:-1] + b',"type":"cancel"}') == Cancel(generation_id="gen_1")
    with pytest.raises(FrameError):
        parse_body(Cancel, body[:-1] + b',"type":"retry"}')


@given(st.binary(max_size=200) | st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_input_is_a_frame_or_a_frame_error(data: bytes | str) -> None:
    try:
        parse_frame(data)
    except FrameError:
        return


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_schema_allows_is_read_and_written_back(fuzz: Any, data: st.DataObject) -> None:
    frame = data.draw(fuzz.frames())
    Draft202012Validator(frame_schema()).validate(frame)
    again = msgspec.json.decode(msgspec.json.encode(parse_frame(json.dumps(frame))))
    assert {key: value for key, value in again.items() if key in frame} == frame


def test_event_is_read_back_as_it_was_written() -> None:
    token = Token(conversation_id="c_1", generation_id="g_1", seq=2, text="ü🚢")
    assert decode_generation_event(encode_event(token)) == token
    assert (event_type(token), event_type(Heartbeat())) == ("token", "heartbeat")
    with pytest.raises(msgspec.MsgspecError):
        decode_generation_event(encode_event(Heartbeat()))


def test_errors_on_the_wire_say_nothing_of_the_inside() -> None:
    assert event_error_of(CallerError("wrong", hint="right")).hint == "right"
    hidden = event_error_of(ValueError("secret path"))
    assert (hidden.code, "secret" in hidden.message) == ("internal", False)
    assert http_status_of("internal") == http_status_of("never heard of") == 500
    assert event_error_of(PratiqueError("x")).code == "internal"
