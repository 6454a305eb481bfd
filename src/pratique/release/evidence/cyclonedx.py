"""Bills of materials in CycloneDX 1.6 whose bytes follow from the image alone, and which keep the standard. Pure.

A tool that lists components adds a random number and the time. The number is derived from the image's digest instead,
the time is the image's own, and lists are sorted: the same image has the same bill, whoever makes it and when.
Source: CycloneDX 1.6 (ECMA-424).
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from pratique.release.components import read_components
from pratique.release.decoding import decode_json
from pratique.release.errors import EvidenceError
from pratique.release.values import Digest, Subject

__all__ = ["normalise_sbom", "require_valid"]

_NAMESPACE: Final = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562, "URL"


def normalise_sbom(raw: bytes, subject: Subject, created: str) -> dict[str, Any]:
    """Return a tool's document with all that varies taken out.

    Args:
        raw: as the tool wrote it.
        subject: the image that it is about: the document's own component.
        created: the image's time, RFC 3339; empty: the document has none.

    Raises:
        EvidenceError: it is no CycloneDX document, or has no components.
    """
    if not read_components(raw):
        raise EvidenceError(
            "the bill of materials names no component: nothing was looked at, or there is nothing in the image",
            hint="An image without any package needs a policy that says so.",
        )
    document: dict[str, Any] = decode_json(raw, dict[str, Any])
    document["serialNumber"] = f"urn:uuid:{_serial(subject.digest)}"
    document["version"] = 1
    metadata = document.setdefault("metadata", {})
    metadata.pop("timestamp", None)
    if created:
        metadata["timestamp"] = created
    metadata["component"] = {
        "bom-ref": subject.digest,
        "type": "container",
        "name": subject.repository,
        "version": subject.digest,
    }
    document["components"] = sorted(document["components"], key=_order)
    if "dependencies" in document:
        document["dependencies"] = sorted(document["dependencies"], key=_order)
    return document


def _serial(digest: Digest) -> uuid.UUID:
    """Return a number that only this image has, marked as one that is derived from a name (version 5)."""
    return uuid.uuid5(_NAMESPACE, f"urn:pratique:sbom:{digest}")


def _order(entry: object) -> bytes:
    return msgspec.json.encode(entry, order="sorted")


def require_valid(document: bytes) -> None:
    """Hold a document against the standard's own schema, unknown members refused.

    Raises:
        EvidenceError: it breaks it; the message says where.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode("utf-8", "replace"))
    if problem is not None:
        raise EvidenceError(f"the bill of materials breaks CycloneDX 1.6: {str(problem)[:500]}")
