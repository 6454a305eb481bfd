"""Makes records in OSV's format for these tests."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["affected", "events", "record"]


def events(*steps: str) -> dict[str, Any]:
    """Make a range of steps like "introduced 0"."""
    return {"type": "ECOSYSTEM", "events": [dict([step.split(" ", 1)]) for step in steps]}


def affected(*ranges: dict[str, Any], name: str = "left-pad", ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
    return {"package": {"ecosystem": ecosystem, "name": name}, "ranges": list(ranges), **more}


def record(identifier: str = "PYSEC-2024-1", *packages: dict[str, Any], **more: Any) -> bytes:
    body = {"id": identifier, "modified": "2024-05-01T00:00:00Z", "affected": list(packages), **more}
    return json.dumps(body).encode()
