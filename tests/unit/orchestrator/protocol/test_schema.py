"""What is published is valid, and is what is spoken."""

from __future__ import annotations

import json
from typing import Any, get_args

import jsonschema
import pytest
from jsonschema import Draft202012Validator

from pratique.orchestrator.protocol import events, frames
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.schema import SCHEMAS, asyncapi, event_schema, frame_schema, openapi

pytestmark = pytest.mark.unit

EVENTS: list[events.ServerEvent] = [
    events.Hello(replica="r", principal_id="p", heartbeat_seconds=10),
    events.Heartbeat(),
    events.ModelState(ready=True, replicas=(events.ModelReplica(name="a", state="traffic_ready", progress=0.5),)),
    events.Accepted(client_message_id="m", conversation_id="c", user_turn_id="t", generation_id="g"),
    events.Reconnected(conversation_id="c", generation_id=None, last_seq=0),
    events.NotResumable(
        conversation_id="c",
        generation_id="g",
        conversation=events.Conversation(
            conversation_id="c", title="t", created_at=1, updated_at=2, version=1, turns=()
        ),
    ),
    events.Started(conversation_id="c", generation_id="g", seq=1, model="m", prompt_tokens=3),
    events.Continued(conversation_id="c", generation_id="g", seq=2, reason="model_server_lost"),
    events.Token(conversation_id="c", generation_id="g", seq=3, text="x"),
    events.Ended(
        conversation_id="c",
        generation_id="g",
        seq=4,
        finish_reason=events.FinishReason.ERROR,
        turn_id=None,
        error=events.EventError(code="interrupted", message="m"),
    ),
    events.Pong(nonce="n"),
    events.GoingAway(reconnect_after_seconds=0.1),
    events.ErrorEvent(error=events.EventError(code="c", message="m")),
]


@pytest.mark.parametrize("schema", [frame_schema(), event_schema()], ids=["frames", "events"])
def test_json_schemas_are_valid(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


def test_every_event_is_what_the_schema_says() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(events.ServerEvent))
    for event in EVENTS:
        Draft202012Validator(event_schema()).validate(json.loads(encode_event(event)))


def test_schema_refuses_what_is_no_frame() -> None:
    for frame in ({}, {"type": "ping", "more": 1}, {"type": "cancel", "generation_id": "../x"}):
        with pytest.raises(jsonschema.ValidationError):
            Draft202012Validator(frame_schema()).validate(frame)


@pytest.mark.parametrize("document", [asyncapi(), openapi()], ids=["asyncapi", "openapi"])
def test_references_lead_somewhere_and_components_are_schemas(document: dict[str, Any]) -> None:
    for reference in _references(document):
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_asyncapi_names_every_frame_and_event() -> None:
    document = asyncapi()
    assert document["asyncapi"].startswith("3.")
    assert set(document["components"]["messages"]) == {
        kind.__name__ for kind in (*get_args(frames.ClientFrame), *get_args(events.ServerEvent))
    }
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"] == {"$ref": "#/channels/chat"}


def test_openapi_has_the_shape_of_its_version() -> None:
    document = openapi()
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        assert path.startswith("/api/")
        for method, operation in operations.items():
            if method == "parameters":
                continue
            assert method in {"get", "post", "patch", "delete"}
            assert operation["responses"]
    body = document["paths"]["/api/cancel"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["generation_id"]


def test_all_are_served_by_name() -> None:
    assert set(SCHEMAS) == {"frames", "events", "asyncapi", "openapi"}


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
