"""Statements of exploitability: OpenVEX 0.2.0, read strictly, and written. Pure.

OpenVEX knows no end of a statement's validity, and its schema allows no members beyond its own. Ours stands in
`status_notes`, on a line of its own: `pratique-expires: 2026-06-30T00:00:00Z`. Other tools show it as a note; here the
statement holds until then. A line that is meant so and has no time makes the document malformed.
Source: OpenVEX specification 0.2.0 and its JSON schema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from pratique.release.decoding import MalformedError, decode_json, parse_instant
from pratique.release.errors import EvidenceError
from pratique.release.predicates import Instant
from pratique.release.values import Digest, digest_of

__all__ = [
    "CONTEXT",
    "Assertion",
    "Component",
    "Document",
    "Justification",
    "Product",
    "Status",
    "VexStatement",
    "VulnerabilityName",
    "expiry_of",
    "make_document",
    "read_document",
    "require_sound",
]

CONTEXT: Final = "https://openvex.dev/ns/v0.2.0"
_CONTEXTS: Final = re.compile(r"https://openvex\.dev/ns(/v0\.[0-9.]+)?")
_EXPIRES: Final = "pratique-expires:"

Status = Literal["not_affected", "affected", "fixed", "under_investigation"]
Justification = Literal[
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """OpenVEX's schema allows no other members."""


class VulnerabilityName(_Strict, frozen=True, kw_only=True):
    """What is called by which names."""

    id: str = msgspec.field(name="@id", default="")
    name: Annotated[str, msgspec.Meta(min_length=1)]
    description: str = ""
    aliases: tuple[str, ...] = ()


class Component(_Strict, frozen=True, kw_only=True):
    """A piece of software, by any of its names."""

    id: str = msgspec.field(name="@id", default="")
    identifiers: dict[str, str] = {}
    hashes: dict[str, str] = {}


class Product(Component, frozen=True, kw_only=True):
    """A piece of software, in all or in some of its components."""

    subcomponents: tuple[Component, ...] = ()


class VexStatement(_Strict, frozen=True, kw_only=True):
    """What one vulnerability means for some products."""

    id: str = msgspec.field(name="@id", default="")
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    vulnerability: VulnerabilityName
    timestamp: Instant | None = None
    last_updated: Instant | None = None
    products: tuple[Product, ...] = ()
    status: Status
    supplier: str = ""
    status_notes: str = ""
    justification: Justification | None = None
    impact_statement: str = ""
    action_statement: str = ""
    action_statement_timestamp: Instant | None = None


class Document(_Strict, frozen=True, kw_only=True):
    """Statements of one author."""

    context: str = msgspec.field(name="@context")
    id: Annotated[str, msgspec.Meta(min_length=1)] = msgspec.field(name="@id")
    author: Annotated[str, msgspec.Meta(min_length=1)]
    role: str = ""
    timestamp: Instant
    last_updated: Instant | None = None
    version: Annotated[int, msgspec.Meta(ge=1)]
    tooling: str = ""
    statements: Annotated[tuple[VexStatement, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Assertion:
    """What somebody states about an image."""

    vulnerability: str
    aliases: tuple[str, ...]
    packages: tuple[str, ...]
    """Package URLs of components; empty: it is about the whole image."""
    status: Status
    justification: Justification | None
    note: str
    """Why. Of `not_affected` without a justification the impact, of `affected` what is to be done."""
    expires_at: datetime | None


def read_document(content: bytes) -> Document:
    """Read a document.

    Raises:
        EvidenceError: it is none, or breaks the standard as `require_sound` says.
    """
    try:
        document = decode_json(content, Document)
    except MalformedError as error:
        raise EvidenceError(f"expected an OpenVEX document: {error}") from error
    require_sound(document)
    return document


def require_sound(document: Document) -> None:
    """Hold a document against what the standard asks for, and its form cannot say.

    Raises:
        EvidenceError: another context, a status without its reason, a statement without products, an end of its
            validity that is no time.
    """
    if not _CONTEXTS.fullmatch(document.context):
        raise EvidenceError(f"expected the context '{CONTEXT}', got '{document.context[:100]}'")
    for number, one in enumerate(document.statements):
        problem = _problem(one)
        if problem:
            raise EvidenceError(f"statement {number} about {one.vulnerability.name} {problem}")
        expiry_of(one)


def _problem(one: VexStatement) -> str:
    if not one.products:
        return "names no product"
    if one.status == "not_affected" and not (one.justification or one.impact_statement):
        return "states not_affected without a justification or an impact statement"
    if one.status == "affected" and not one.action_statement:
        return "states affected without an action statement"
    return ""


def expiry_of(statement: VexStatement) -> datetime | None:
    """Return until when a statement holds; None: its author named no end.

    Raises:
        EvidenceError: it has a line that names an end, which is no time; or several.
    """
    lines = [line.strip() for line in statement.status_notes.splitlines()]
    ends = [line.removeprefix(_EXPIRES).strip() for line in lines if line.startswith(_EXPIRES)]
    if not ends:
        return None
    try:
        (end,) = ends
        return parse_instant(end)
    except (ValueError, MalformedError) as error:
        expected = f"expected one line '{_EXPIRES} TIME' with a time as in RFC 3339"
        raise EvidenceError(f"{expected}, got {', '.join(ends)[:200]}") from error


def make_document(image: Digest, name: str, author: str, said: Assertion, *, now: datetime) -> Document:
    """Write what somebody states about an image as a document. The same arguments give the same one.

    Args:
        image: the image's digest.
        name: the last part of its repository's name.
        author: for people; who counts as the author is who signs.
        said: the statement.
        now: its time.

    Raises:
        EvidenceError: the statement lacks what its status needs, or ends before it begins.
    """
    if said.expires_at is not None and said.expires_at <= now:
        raise EvidenceError(f"the statement would end at {said.expires_at.isoformat()}, which is past")
    needs_impact = said.status == "not_affected" and said.justification is None
    notes = [said.note] if said.note and not needs_impact and said.status != "affected" else []
    if said.expires_at is not None:
        notes.append(f"{_EXPIRES} {said.expires_at.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}")
    statement = VexStatement(
        vulnerability=VulnerabilityName(name=said.vulnerability, aliases=said.aliases),
        products=(_product(image, name, said.packages),),
        status=said.status,
        justification=said.justification,
        status_notes="\n".join(notes),
        impact_statement=said.note if needs_impact else "",
        action_statement=said.note if said.status == "affected" else "",
    )
    body = msgspec.json.encode((image, author, now, statement), order="deterministic")
    document = Document(
        context=CONTEXT,
        id=f"urn:pratique:vex:{digest_of(body).removeprefix('sha256:')}",
        author=author,
        timestamp=now,
        version=1,
        tooling="pratique",
        statements=(statement,),
    )
    return read_document(msgspec.json.encode(document))


def _product(image: Digest, name: str, packages: tuple[str, ...]) -> Product:
    number = image.removeprefix("sha256:")
    return Product(
        id=f"pkg:oci/{name}@sha256%3A{number}",
        hashes={"sha-256": number},
        subcomponents=tuple(Component(id=package) for package in packages),
    )
