"""Sigstore bundles in JSON: read strictly, written the same way every time.

Versions 0.1 to 0.3 are read, keyed bundles of 0.3 are written. Reading proves nothing: it makes sure that there is one
content, one signer's material and, from 0.2 on, an inclusion proof with a checkpoint for each log entry, as the format
demands. Members that the format does not know are refused: they may mean something.
Source: sigstore/protobuf-specs, `sigstore_bundle.proto`, `sigstore_rekor.proto`; JSON as protobuf writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from pratique.core.errors import CallerError
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import VerificationError
from pratique.release.signing.dsse import Envelope, WireEnvelope, envelope_of, wire_of

__all__ = [
    "BUNDLE_V03",
    "MAX_BUNDLE_BYTES",
    "Bundle",
    "InclusionProof",
    "LogEntry",
    "MessageSignature",
    "load_bundle",
    "parse_bundle",
    "write_keyed_bundle",
]

BUNDLE_V03: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE_BYTES: Final = 96 * 1024 * 1024
"""A statement of the largest size in base64, and room for the rest."""
_MAX_ENTRIES: Final = 8
_MAX_TIMESTAMPS: Final = 8
_OLDER: Final = "application/vnd.dev.sigstore.bundle+json;version="
_VERSIONS: Final = {f"{_OLDER}0.1": 1, f"{_OLDER}0.2": 2, f"{_OLDER}0.3": 3, BUNDLE_V03: 3}


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """A signature over an artifact itself, not over a statement about it."""

    signature: bytes
    sha256: bytes | None
    """The artifact's digest as the bundle claims it; None where it claims none."""


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That an entry is a leaf of a log's Merkle tree (RFC 6962), under a head that the log signed."""

    index: int
    tree_size: int
    root_hash: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of a transparency log, as the bundle brings it."""

    log_id: bytes
    index: int
    kind: str
    version: str
    body: bytes
    integrated_at: int | None
    """Unix seconds; counts only with a promise that signs it."""
    promise: bytes | None
    proof: InclusionProof | None
    """None only where a promise vouches, in bundles of 0.1 and in cosign's older layout."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was signed, and with what it may be verified. One of `certificate` and `hint` is there."""

    content: Envelope | MessageSignature
    certificate: bytes | None
    """The signer's certificate in DER."""
    hint: str | None
    """Which key it was, as the signer says; not signed."""
    entries: tuple[LogEntry, ...]
    timestamps: tuple[bytes, ...]
    """RFC 3161 responses in DER, over the signature."""

    @property
    def signature(self) -> bytes:
        """The signature's bytes."""
        return self.content.signature


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """Base of what stands in the JSON. 64-bit numbers are strings there."""


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _LogId(_Wire, frozen=True):
    key_id: bytes


class _KindVersion(_Wire, frozen=True):
    kind: str
    version: str


class _Promise(_Wire, frozen=True):
    signed_entry_timestamp: bytes


class _Checkpoint(_Wire, frozen=True):
    envelope: str


class _Proof(_Wire, frozen=True):
    root_hash: bytes
    tree_size: _Count
    log_index: _Count = 0
    hashes: tuple[bytes, ...] = ()
    checkpoint: _Checkpoint | None = None


class _Entry(_Wire, frozen=True):
    log_id: _LogId
    kind_version: _KindVersion
    canonicalized_body: bytes
    log_index: _Count = 0
    integrated_time: _Count | None = None
    inclusion_promise: _Promise | None = None
    inclusion_proof: _Proof | None = None


class _Certificate(_Wire, frozen=True):
    raw_bytes: bytes


class _Chain(_Wire, frozen=True):
    certificates: tuple[_Certificate, ...]


class _PublicKey(_Wire, frozen=True):
    hint: str = ""


class _Timestamp(_Wire, frozen=True):
    signed_timestamp: bytes


class _Timestamps(_Wire, frozen=True):
    rfc3161_timestamps: tuple[_Timestamp, ...] | None = ()


class _Material(_Wire, frozen=True):
    certificate: _Certificate | None = None
    x509_certificate_chain: _Chain | None = None
    public_key: _PublicKey | None = None
    tlog_entries: tuple[_Entry, ...] | None = ()
    timestamp_verification_data: _Timestamps | None = None


class _MessageDigest(_Wire, frozen=True):
    algorithm: Literal["SHA2_256"]
    digest: bytes


class _MessageSignature(_Wire, frozen=True):
    signature: bytes
    message_digest: _MessageDigest | None = None


class _Bundle(_Wire, frozen=True):
    media_type: str
    verification_material: _Material
    message_signature: _MessageSignature | None = None
    dsse_envelope: WireEnvelope | None = None


def parse_bundle(content: bytes) -> Bundle:
    """Read a bundle.

    Raises:
        VerificationError: it is malformed, or of a version that is not read.
    """
    try:
        wire = decode_json(content, _Bundle, max_bytes=MAX_BUNDLE_BYTES, strict=False)
    except MalformedError as error:
        raise VerificationError(f"expected a Sigstore bundle: {error}") from error
    version = _VERSIONS.get(wire.media_type)
    if version is None:
        raise VerificationError(f"expected a Sigstore bundle of version 0.1 to 0.3, got '{wire.media_type[:100]}'")
    material = wire.verification_material
    certificate, hint = _signer_of(material, version)
    times = material.timestamp_verification_data
    stamps = tuple(one.signed_timestamp for one in (times.rfc3161_timestamps if times else None) or ())
    entries = material.tlog_entries or ()
    if len(entries) > _MAX_ENTRIES or len(stamps) > _MAX_TIMESTAMPS:
        raise VerificationError(
            f"expected at most {_MAX_ENTRIES} log entries and {_MAX_TIMESTAMPS} time stamps,"
            f" got {len(entries)} and {len(stamps)}"
        )
    return Bundle(_content_of(wire), certificate, hint, tuple(_entry_of(one, version) for one in entries), stamps)


def load_bundle(file: Path) -> bytes:
    """Read a bundle's file, unparsed.

    Raises:
        CallerError: it cannot be read.
        VerificationError: it is too large for a bundle.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise CallerError(f"the bundle {file} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BUNDLE_BYTES:
        raise VerificationError(f"the bundle {file} has more than {MAX_BUNDLE_BYTES} bytes")
    return content


def _content_of(wire: _Bundle) -> Envelope | MessageSignature:
    message = wire.message_signature
    if (message is None) == (wire.dsse_envelope is None):
        raise VerificationError("expected a bundle with either dsseEnvelope or messageSignature, got both or none")
    if wire.dsse_envelope is not None:
        return envelope_of(wire.dsse_envelope)
    assert message is not None  # noqa: S101 - one of the two is there
    if not message.signature:
        raise VerificationError("the bundle's signature is empty")
    return MessageSignature(message.signature, message.message_digest.digest if message.message_digest else None)


def _signer_of(material: _Material, version: int) -> tuple[bytes | None, str | None]:
    """Return the leaf certificate or the key's hint. A chain, in older bundles, begins with the leaf."""
    chain = material.x509_certificate_chain
    given = [one for one in (material.certificate, chain, material.public_key) if one is not None]
    if len(given) != 1:
        raise VerificationError(f"expected a bundle with one of certificate, chain and publicKey, got {len(given)}")
    if material.public_key is not None:
        return None, material.public_key.hint
    if material.certificate is not None:
        return material.certificate.raw_bytes, None
    if version >= 3 or chain is None or not chain.certificates:  # noqa: PLR2004 - 0.3
        raise VerificationError("expected the signer's certificate, got an empty chain or, in a bundle of 0.3, a chain")
    return chain.certificates[0].raw_bytes, None


def _entry_of(wire: _Entry, version: int) -> LogEntry:
    proof = wire.inclusion_proof
    read = None
    if proof is not None and proof.checkpoint is not None:
        read = InclusionProof(
            proof.log_index, proof.tree_size, proof.root_hash, proof.hashes, proof.checkpoint.envelope
        )
    promise = wire.inclusion_promise.signed_entry_timestamp if wire.inclusion_promise else None
    if read is None and (version > 1 or promise is None):
        raise VerificationError("a log entry must have an inclusion proof with a checkpoint, got none")
    return LogEntry(
        log_id=wire.log_id.key_id,
        index=wire.log_index,
        kind=wire.kind_version.kind,
        version=wire.kind_version.version,
        body=wire.canonicalized_body,
        integrated_at=wire.integrated_time or None,
        promise=promise,
        proof=read,
    )


def write_keyed_bundle(envelope: Envelope, *, hint: str, timestamps: tuple[bytes, ...] = ()) -> bytes:
    """Return a bundle of 0.3 that a key signed. The same arguments give the same bytes.

    Args:
        envelope: the signed statement.
        hint: base64 of the SHA-256 of the key's SubjectPublicKeyInfo in DER, as cosign writes it.
        timestamps: RFC 3161 responses over the signature, in DER.
    """
    stamps = _Timestamps(tuple(_Timestamp(one) for one in timestamps)) if timestamps else None
    material = _Material(public_key=_PublicKey(hint), timestamp_verification_data=stamps)
    wire = _Bundle(media_type=BUNDLE_V03, verification_material=material, dsse_envelope=wire_of(envelope))
    return msgspec.json.encode(wire)
