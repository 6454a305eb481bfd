"""Bills of materials in CycloneDX 1.6 whose bytes follow from the image alone, and which keep the standard. Pure.

What is no package is left out, and named: a `package.json` without a version outside of `node_modules` is the manifest
of a folder that somebody works in. npm installs nothing that has no version.

A tool that lists components adds a random number and the time. The number is derived from the image's digest instead,
the time is the image's own, and lists are sorted: the same image has the same bill, whoever makes it and when.
Source: CycloneDX 1.6 (ECMA-424); npm's package.json, "version".
"""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

import msgspec

from pratique.release.components import parse_purl, read_components
from pratique.release.decoding import decode_json
from pratique.release.errors import EvidenceError
from pratique.release.values import Digest, Subject

__all__ = ["LEFT_OUT", "normalise_sbom", "require_valid"]

LEFT_OUT: Final = "pratique:left-out:npm-project"
"""The property of the document's metadata that names such a file."""
_LOCATION: Final = re.compile(r"syft:location:[0-9]+:path")

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
    document: dict[str, Any] = decode_json(raw, dict[str, Any])
    left_out = _leave_out_projects(document) if read_components(raw) else []
    if not read_components(msgspec.json.encode(document)):
        raise EvidenceError(
            "the bill of materials names no component: nothing was looked at, or there is nothing in the image",
            hint="An image without any package needs a policy that says so.",
        )
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
    if left_out:
        metadata["properties"] = [
            *metadata.get("properties", []),
            *({"name": LEFT_OUT, "value": path} for path in left_out),
        ]
    document["components"] = sorted(document["components"], key=_order)
    if "dependencies" in document:
        document["dependencies"] = sorted(document["dependencies"], key=_order)
    return document


def _leave_out_projects(document: dict[str, Any]) -> list[str]:
    """Take the components out that are no packages, with what depends on them; return the files they were found in."""
    found = {id(one): paths for one in document["components"] if (paths := _project_files(one))}
    gone = {one.get("bom-ref") for one in document["components"] if id(one) in found} - {None}
    document["components"] = [one for one in document["components"] if id(one) not in found]
    edges = [one for one in document.get("dependencies", ()) if one.get("ref") not in gone]
    for edge in edges:
        if "dependsOn" in edge:
            edge["dependsOn"] = [ref for ref in edge["dependsOn"] if ref not in gone]
    if "dependencies" in document:
        document["dependencies"] = edges
    return sorted(path for paths in found.values() for path in paths)


def _project_files(component: dict[str, Any]) -> tuple[str, ...]:
    """Return the `package.json` files that a component without a version was found in; none where it is a package."""
    purl = component.get("purl", "")
    if not purl.startswith("pkg:npm/") or parse_purl(purl).version:
        return ()
    told = component.get("properties", ())
    paths = tuple(one.get("value", "") for one in told if _LOCATION.fullmatch(one.get("name", "")))
    are_projects = all(path.endswith("/package.json") and "/node_modules/" not in path for path in paths)
    return paths if are_projects else ()


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
