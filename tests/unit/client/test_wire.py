"""The client's types and the orchestrator's published ones say the same, in both directions."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.client import _wire as wire
from pratique.orchestrator.protocol import events, frames

pytestmark = pytest.mark.unit

SERVER_EVENTS = typing.get_args(events.ServerEvent)
CLIENT_EVENTS = typing.get_args(wire.ServerEvent)
CLIENT_FRAMES = (wire.Message, wire.Retry, wire.Resume, wire.Cancel)
VALUES = (
    "EventError",
    "Usage",
    "Route",
    "Source",
    "ReplyDetails",
    "Turn",
    "Conversation",
    "ConversationSummary",
    "ModelReplica",
)


def tag_of(kind: type) -> str:
    return str(kind.__struct_config__.tag)  # type: ignore[attr-defined]  # every msgspec struct has it


def shape_of(kind: Any) -> Any:
    """The JSON schema without what is only for people, and without bounds that the server alone enforces."""
    return strip(msgspec.json.schema(kind))


def strip(schema: Any) -> Any:
    for_people = {"title", "description", "minLength", "maxLength", "pattern", "minimum", "maximum"}
    if isinstance(schema, dict):
        return {
            key: strip(value)
            for key, value in schema.items()
            if not (key in for_people and not isinstance(value, dict)) and key != "additionalProperties"
        }
    return [strip(entry) for entry in schema] if isinstance(schema, list) else schema


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Instances of a struct, from its fields' types."""
    hints = typing.get_type_hints(kind, include_extras=False)
    return st.builds(kind, **{name: strategy_of(hints[name]) for name in kind.__struct_fields__})


def strategy_of(hint: Any) -> st.SearchStrategy[Any]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return values_of(hint)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return st.lists(strategy_of(arguments[0]), max_size=3).map(tuple)
    if arguments:
        return st.one_of(*(strategy_of(argument) for argument in arguments))
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if hint is int:
        return st.integers(-(2**53), 2**53)
    return st.from_type(hint)


def test_the_same_events_exist_on_both_sides() -> None:
    assert {tag_of(kind) for kind in CLIENT_EVENTS} == {tag_of(kind) for kind in SERVER_EVENTS}
    assert frozenset(tag_of(kind) for kind in SERVER_EVENTS) == wire._KNOWN_TYPES
    assert frames.PROTOCOL_VERSION == wire.PROTOCOL_VERSION


@pytest.mark.parametrize("server_kind", SERVER_EVENTS, ids=tag_of)
def test_the_schemas_of_the_events_are_equal(server_kind: type) -> None:
    client_kind = next(kind for kind in CLIENT_EVENTS if tag_of(kind) == tag_of(server_kind))
    assert shape_of(client_kind) == shape_of(server_kind)


@pytest.mark.parametrize("name", VALUES)
def test_the_schemas_of_the_values_are_equal(name: str) -> None:
    assert shape_of(getattr(wire, name)) == shape_of(getattr(events, name))


@pytest.mark.parametrize("client_kind", CLIENT_FRAMES, ids=tag_of)
def test_the_schemas_of_the_frames_are_equal(client_kind: type) -> None:
    server_kind = next(kind for kind in typing.get_args(frames.ClientFrame) if tag_of(kind) == tag_of(client_kind))
    assert shape_of(client_kind) == shape_of(server_kind)


@given(event=st.one_of(*(values_of(kind) for kind in SERVER_EVENTS)))
def test_every_event_of_the_server_arrives_unchanged(event: Any) -> None:
    arrived = wire.decode_event(msgspec.json.encode(event))
    assert type(arrived).__name__ == type(event).__name__
    assert msgspec.json.decode(msgspec.json.encode(arrived), type=events.ServerEvent) == event


@given(
    text=st.text(min_size=1, max_size=20),
    conversation_id=st.none() | st.just("cnv_1"),
    max_tokens=st.none() | st.integers(1, 4096),
    temperature=st.none() | st.floats(0, 2),
    model=st.none() | st.just("chatbot-ja"),
)
def test_a_message_of_the_client_arrives_unchanged(**fields: Any) -> None:
    message = wire.Message(client_message_id="msg_0001", **fields)
    for raw, kind in ((wire.encode_frame(message), frames.ClientFrame), (wire.encode_body(message), frames.Message)):
        arrived: Any = msgspec.json.decode(raw, type=kind)
        assert isinstance(arrived, frames.Message)
        assert msgspec.structs.asdict(arrived) == msgspec.structs.asdict(message)


@pytest.mark.parametrize(
    "frame",
    [
        wire.Retry(conversation_id="cnv_1", client_message_id="msg_0001"),
        wire.Resume(conversation_id="cnv_1", generation_id="gen_1", last_seq=7),
        wire.Resume(conversation_id="cnv_1"),
        wire.Cancel(generation_id="gen_1"),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_the_other_frames_arrive_unchanged(frame: Any) -> None:
    arrived: Any = msgspec.json.decode(wire.encode_frame(frame), type=frames.ClientFrame)
    assert type(arrived).__name__ == type(frame).__name__
    assert msgspec.structs.asdict(arrived) == msgspec.structs.asdict(frame)


def test_a_later_server_may_say_more() -> None:
    assert wire.decode_event('{"type":"heartbeat","load":0.3}') == wire.Heartbeat()
    assert wire.decode_event('{"type":"invented_later"}') is None


@pytest.mark.parametrize("data", ["", "1", "{}", '{"type":1}', '{"type":"token"}', b"\xff"])
def test_what_is_no_event_is_refused(data: str | bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        wire.decode_event(data)
