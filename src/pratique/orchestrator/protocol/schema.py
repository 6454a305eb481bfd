"""The protocol for programs: JSON Schema of frames and events, AsyncAPI 3 of the WebSocket, OpenAPI 3.1 of HTTP.

The shapes are made from the types in `frames` and `events`; what stands here is only where each of them goes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from pratique.orchestrator.protocol import bodies, events, frames
from pratique.orchestrator.protocol.errors import HTTP_STATUS
from pratique.orchestrator.protocol.examples import example_of
from pratique.orchestrator.protocol.meanings import meaning_of_field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CLOSE_CODES", "SCHEMAS", "asyncapi", "event_schema", "frame_schema", "openapi"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COMPONENT = "#/components/schemas/{name}"
_WAITABLE = frozenset({429, 503})
_VERSION = f"{frames.PROTOCOL_VERSION}.0.0"

CLOSE_CODES: Mapping[int, str] = {
    1000: "Either side is done.",
    1001: "The replica drains: reconnect at once, resume.",
    1008: "Refused: no principal, or a foreign origin; the reason is the error's code. Do not reconnect as you are.",
    1009: "A message was too big. Sending it again fails again.",
    1011: "Something failed inside the service: reconnect, resume.",
    1013: "The reader was too slow, the replica is full, or its keys cannot be read: reconnect later, resume.",
    4400: "Too many malformed frames in a row: the client is broken.",
    4401: "The credential that opened it has ended or was revoked: get a new one, reconnect, resume.",
}
"""Of the WebSocket, with what a client does then."""

_BODIES = (
    bodies.Session,
    bodies.Status,
    bodies.ModelList,
    bodies.ConversationList,
    bodies.Reply,
    bodies.Cancelled,
    bodies.DataErased,
    bodies.Rename,
    bodies.ErrorBody,
    events.Conversation,
)
_FRAMES: tuple[type, ...] = get_args(frames.ClientFrame)
_EVENTS: tuple[type, ...] = get_args(events.ServerEvent)


@cache
def frame_schema() -> dict[str, Any]:
    """JSON Schema of what a client sends."""
    return _union(frames.ClientFrame, title="Client frame")


@cache
def event_schema() -> dict[str, Any]:
    """JSON Schema of what a client receives."""
    return _union(events.ServerEvent, title="Server event")


@cache
def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3 of `GET /api/ws`."""
    messages = {kind.__name__: _message(kind) for kind in (*_FRAMES, *_EVENTS)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "pratique chat",
            "version": _VERSION,
            "description": "One JSON text message per frame and per event, told apart by `type`. Close codes: "
            + " ".join(f"{code}: {text}" for code, text in CLOSE_CODES.items()),
        },
        "defaultContentType": "application/json",
        "channels": {
            "chat": {
                "address": "/api/ws",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {
            "receiveFrame": _operation("receive", _FRAMES),
            "sendEvent": _operation("send", _EVENTS),
        },
        "components": {"messages": messages, "schemas": _components((*_FRAMES, *_EVENTS))},
    }


@cache
def openapi() -> dict[str, Any]:
    """OpenAPI 3.1 of the HTTP side."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "pratique chat", "version": _VERSION},
        "paths": _paths(),
        "security": [{"session": []}, {"apiKey": []}],
        "components": {
            "schemas": _components((*_FRAMES, *_EVENTS, *_BODIES)),
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "pratique_session"},
                "apiKey": {"type": "http", "scheme": "bearer"},
            },
        },
    }


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "frames": frame_schema,
    "events": event_schema,
    "asyncapi": asyncapi,
    "openapi": openapi,
}
"""By the name under which each is served."""


def _paths() -> dict[str, Any]:
    one = [_parameter("conversation_id", place="path")]
    cursor = [
        *one,
        _parameter("generation_id", place="query"),
        _parameter("last_seq", place="query", schema={"type": "integer", "minimum": 0}),
        _parameter("Last-Event-ID", place="header"),
    ]
    paging = [
        _parameter("limit", place="query", schema={"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
        _parameter("before", place="query"),
    ]
    return {
        "/api/session": {
            "get": {**_call("Who asks; makes a session where there is none", bodies.Session), "security": []}
        },
        "/api/status": {"get": {**_call("How this replica and the models are", bodies.Status), "security": []}},
        "/api/models": {"get": _call("What a message may name", bodies.ModelList)},
        "/api/chat": {"post": _call("Send a message", bodies.Reply, body=frames.Message, streams=True)},
        "/api/retry": {"post": _call("Answer the last user turn again", bodies.Reply, body=frames.Retry, streams=True)},
        "/api/cancel": {"post": _call("Stop a reply", bodies.Cancelled, body=frames.Cancel, status=202)},
        "/api/conversations": {"get": {**_call("List, newest first", bodies.ConversationList), "parameters": paging}},
        "/api/conversations/{conversation_id}": {
            "parameters": one,
            "get": _call("Show one", events.Conversation),
            "patch": _call("Rename it", events.ConversationSummary, body=bodies.Rename),
            "delete": _call("Delete it", None, status=204),
        },
        "/api/conversations/{conversation_id}/events": {
            "get": {**_call("Resume a reply", None, streams=True), "parameters": cursor}
        },
        "/api/me/export": {"get": _call("All that is kept of the asker, as lines of JSON", None)},
        "/api/me/data": {"delete": _call("Erase all that is kept of the asker", bodies.DataErased)},
    }


def _union(kind: object, *, title: str) -> dict[str, Any]:
    (schema,), definitions = msgspec.json.schema_components((kind,), ref_template="#/$defs/{name}")
    return {"$schema": _DIALECT, "title": title, **schema, "$defs": _explained(definitions)}


def _components(kinds: tuple[type, ...]) -> dict[str, Any]:
    return _explained(msgspec.json.schema_components(kinds, ref_template=_COMPONENT)[1])


def _explained(schemas: dict[str, Any]) -> dict[str, Any]:
    """Say at every field what it means, where its type does not."""
    for name, schema in schemas.items():
        for field, its in schema.get("properties", {}).items():
            meaning = meaning_of_field(name, field)
            if meaning and "description" not in its:
                its["description"] = meaning
    return schemas


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": _COMPONENT.format(name=kind.__name__)}


def _body_schema(kind: type) -> dict[str, Any]:
    """Return a frame's schema as it is posted: its `type` need not be said."""
    schema = dict(_components((kind,))[kind.__name__])
    return {**schema, "required": [name for name in schema["required"] if name != "type"]}


def _message(kind: type) -> dict[str, Any]:
    return {
        "name": kind.__name__,
        "summary": _first_line(kind),
        "payload": _reference(kind),
        "examples": [{"payload": example_of(kind)}],
    }


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").split("\n")[0]


def _operation(action: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    names = [{"$ref": f"#/channels/chat/messages/{kind.__name__}"} for kind in kinds]
    return {"action": action, "channel": {"$ref": "#/channels/chat"}, "messages": names}


def _call(
    summary: str, answer: type | None, *, body: type | None = None, status: int = 200, streams: bool = False
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answer is not None:
        content["application/json"] = {"schema": _reference(answer)}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string", "description": "Events; see events.json."}}
    call: dict[str, Any] = {
        "summary": summary,
        "responses": {
            str(status): {"description": "Done", **({"content": content} if content else {})},
            **{str(code): _refusal(code) for code in sorted(set(HTTP_STATUS.values()))},
        },
    }
    if body is not None:
        content = {"schema": _body_schema(body)} | _body_example(body)
        call["requestBody"] = {"required": True, "content": {"application/json": content}}
    return call


def _body_example(kind: type) -> dict[str, Any]:
    if kind not in _FRAMES:
        return {}
    return {"example": {name: value for name, value in example_of(kind).items() if name != "type"}}


def _refusal(status: int) -> dict[str, Any]:
    """Say which codes come with a status; where waiting helps, for how long is in a header too."""
    codes = ", ".join(sorted(code for code, its in HTTP_STATUS.items() if its == status))
    wait = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return {
        "description": f"Refused: {codes}",
        "content": {"application/json": {"schema": _reference(bodies.ErrorBody)}},
        **({"headers": wait} if status in _WAITABLE else {}),
    }


def _parameter(name: str, *, place: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema or {"type": "string"}}
