"""In-toto statements: what is said, about which digests. The payload of every signature here.

The bytes that were signed are the statement: they are kept as they came, and parsed from there.
Source: in-toto attestation framework, Statement v1; cosign writes v0.1, which is read too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import DigestError, EvidenceError
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = ["PAYLOAD_TYPE", "Statement", "make_statement", "parse_statement"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The DSSE payload type of a statement."""

MAX_STATEMENT_BYTES: Final = 64 * 1024 * 1024
"""An SBOM of a large image has tens of megabytes; what is larger is refused unread."""

T = TypeVar("T")


class _Resource(msgspec.Struct, frozen=True, omit_defaults=True):
    digest: dict[str, str]
    name: str = ""


class _Wire(msgspec.Struct, frozen=True):
    type_: Literal["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"] = msgspec.field(name="_type")
    subject: list[_Resource]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: msgspec.Raw = msgspec.Raw(b"{}")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and the very bytes it was read from."""

    payload: bytes
    subjects: tuple[Digest, ...]
    """SHA-256 only; at least one."""
    predicate_type: str
    predicate: bytes
    """JSON, unread."""

    @property
    def digest(self) -> Digest:
        """The digest of the payload: what the ledger and approvals refer to."""
        return digest_of(self.payload)

    def read(self, kind: type[T]) -> T:
        """Parse the predicate.

        Raises:
            EvidenceError: it is not of this kind; the message says where.
        """
        try:
            return decode_json(self.predicate, kind, max_bytes=MAX_STATEMENT_BYTES)
        except MalformedError as error:
            raise EvidenceError(f"a predicate of type '{self.predicate_type}' is malformed: {error}") from error


def parse_statement(payload: bytes) -> Statement:
    """Read a statement from signed bytes.

    Raises:
        EvidenceError: it is no statement, or names no subject by SHA-256.
    """
    try:
        wire = decode_json(payload, _Wire, max_bytes=MAX_STATEMENT_BYTES)
    except MalformedError as error:
        raise EvidenceError(f"expected an in-toto statement: {error}") from error
    try:
        subjects = tuple(parse_digest(f"sha256:{one.digest.get('sha256')}") for one in wire.subject)
    except DigestError as error:
        raise EvidenceError(f"every subject of a statement must have a sha256 digest: {error.message}") from error
    if not subjects:
        raise EvidenceError("a statement must have a subject, got none")
    return Statement(payload, subjects, wire.predicate_type, bytes(wire.predicate))


def make_statement(subject: Digest, predicate_type: str, predicate: object, *, name: str = "") -> Statement:
    """Write a statement about one artifact. The same arguments give the same bytes.

    Args:
        subject: the artifact's digest.
        predicate_type: a URI, see `predicates`.
        predicate: what msgspec can write as a JSON object.
        name: the artifact's name for people; decides nothing.
    """
    wire = _Wire(
        type_="https://in-toto.io/Statement/v1",
        subject=[_Resource({"sha256": subject.removeprefix("sha256:")}, name)],
        predicate_type=predicate_type,
        predicate=msgspec.Raw(msgspec.json.encode(predicate, order="deterministic")),
    )
    return parse_statement(msgspec.json.encode(wire))
