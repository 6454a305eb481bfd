"""The protocol for programs: JSON Schema of frames and events, AsyncAPI 3 of the WebSocket, OpenAPI 3.1 of HTTP.

All are made from the types in `frames` and `events`; nothing is written twice.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from pratique.orchestrator.protocol import events, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SCHEMAS", "event_schema", "frame_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@cache
def frame_schema() -> dict[str, Any]:
    """JSON Schema of what a client sends."""
    return _union(frames.ClientFrame, title="Client frame")


@cache
def event_schema() -> dict[str, Any]:
    """JSON Schema of what a client receives."""
    return _union(events.ServerEvent, title="Server event")


def _union(kind: object, *, title: str) -> dict[str, Any]:
    (schema,), definitions = msgspec.json.schema_components((kind,), ref_template="#/$defs/{name}")
    return {"$schema": _DIALECT, "title": title, **schema, "$defs": definitions}


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {"frames": frame_schema, "events": event_schema}
"""By the name under which each is served."""
