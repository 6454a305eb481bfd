"""Entries and heads as people and programs get them: JSON objects, one a line. Pure."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from pratique.release.ledger.chain import format_time
from pratique.release.ledger.interface import Entry, Head

__all__ = ["entry_object", "head_object"]


def entry_object(entry: Entry) -> dict[str, Any]:
    """Return an entry as msgspec writes it; the body stands in it as it was hashed, byte for byte."""
    return {
        "index": entry.index,
        "at": format_time(entry.at),
        "kind": entry.kind,
        "subject": entry.subject,
        "environment": entry.environment,
        "actor": entry.actor,
        "body": msgspec.Raw(entry.body),
        "previous": entry.previous,
        "hash": entry.hash,
    }


def head_object(ledger: str, head: Head) -> dict[str, Any]:
    """Return a head; what is written so can be kept as a witness."""
    bundle = base64.b64encode(head.bundle).decode()
    return {"schema_version": 1, "ledger": ledger, "size": head.size, "hash": head.hash, "bundle": bundle}
