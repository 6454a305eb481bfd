"""What is published is valid, and is what is spoken."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, get_args

import jsonschema
import msgspec
import openapi_spec_validator
import pytest
from jsonschema import Draft202012Validator

from pratique.client.errors import TRANSIENT_CODES, WIRE_ERRORS
from pratique.orchestrator.api import stream, websocket
from pratique.orchestrator.protocol import events, frames
from pratique.orchestrator.protocol.encode import encode_event
from pratique.orchestrator.protocol.examples import EVENT_EXAMPLES, FRAME_EXAMPLES, example_of
from pratique.orchestrator.protocol.meanings import RETRY_ADVICE
from pratique.orchestrator.protocol.parse import parse_frame
from pratique.orchestrator.protocol.schema import (
    CLOSE_CODES,
    SCHEMAS,
    asyncapi,
    event_schema,
    frame_schema,
    openapi,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("schema", [frame_schema(), event_schema()], ids=["frames", "events"])
def test_json_schemas_are_valid(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


def test_every_event_has_an_example_that_is_what_the_schema_says() -> None:
    assert [type(event) for event in EVENT_EXAMPLES] == list(get_args(events.ServerEvent))
    for event in EVENT_EXAMPLES:
        sent = json.loads(encode_event(event))
        assert sent == example_of(type(event))
        Draft202012Validator(event_schema()).validate(sent)


def test_every_frame_has_an_example_that_the_schema_and_the_parser_take() -> None:
    assert [type(frame) for frame in FRAME_EXAMPLES] == list(get_args(frames.ClientFrame))
    for frame in FRAME_EXAMPLES:
        sent = example_of(type(frame))
        Draft202012Validator(frame_schema()).validate(sent)
        assert parse_frame(json.dumps(sent)) == frame


def test_the_examples_show_the_fields_that_came_last() -> None:
    named, route = example_of(frames.Message)["model"], example_of(events.Started)["details"]["route"]
    assert (route["model"], route["policy"], route["reason"]) == (named, "named", f"the message asks for '{named}'")
    assert example_of(events.NotResumable)["conversation"]["turns"][1]["details"]["sources"]


@pytest.mark.parametrize("schema", [frame_schema(), event_schema()], ids=["frames", "events"])
def test_every_published_field_says_what_it_means_or_its_class_does(schema: dict[str, Any]) -> None:
    silent = [
        f"{name}.{field}"
        for name, definition in schema["$defs"].items()
        for field, its in definition.get("properties", {}).items()
        if field != "type" and "description" not in its and not _has_note(name, field)
    ]
    assert silent == []


def test_advice_to_wait_is_what_the_client_does() -> None:
    waits = {code for code, advice in RETRY_ADVICE.items() if "retry_after_seconds" in advice}
    assert waits & set(WIRE_ERRORS) == TRANSIENT_CODES


def test_openapi_is_valid() -> None:
    openapi_spec_validator.validate(json.loads(msgspec.json.encode(openapi())))


def test_openapi_says_which_codes_come_with_a_status_and_when_to_come_again() -> None:
    answers = openapi()["paths"]["/api/chat"]["post"]["responses"]
    assert "store_unavailable" in answers["503"]["description"]
    assert "Retry-After" in answers["503"]["headers"]
    assert "headers" not in answers["404"]


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


def test_every_close_code_that_is_sent_is_published() -> None:
    sent = {stream.GOING_AWAY, stream.TRY_AGAIN_LATER, stream.CREDENTIAL_EXPIRED}
    sent |= {websocket.POLICY, websocket.TOO_MANY_BAD_FRAMES, websocket._INTERNAL}
    assert sent <= set(CLOSE_CODES)
    assert all(f"{code}: " in asyncapi()["info"]["description"] for code in sent)


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


def _has_note(kind: str, field: str) -> bool:
    source = inspect.getsource(vars(events).get(kind) or vars(frames)[kind])
    return re.search(rf'    {field}: .*\n    """', source) is not None


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
