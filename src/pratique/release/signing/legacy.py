"""cosign's older layout, read only: signatures and attestations as layers of an image under a tag of their own. Pure.

`sha256-<hex>.sig` holds "simple signing" payloads, which name an image and say nothing else: they become statements
that the image is signed. `sha256-<hex>.att` holds DSSE envelopes. Certificates, log entries and time stamps stand in
annotations; a log entry has a promise and no inclusion proof, as in bundles of version 0.1.
Sources: cosign `specs/SIGNATURE_SPEC.md` and `specs/BUNDLE_SPEC.md`, sigstore/sigstore `pkg/signature/payload`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import DigestError, VerificationError
from pratique.release.predicates import RELEASE
from pratique.release.registry.interface import Blob
from pratique.release.registry.names import fallback_tag
from pratique.release.signing.bundle import Bundle, LogEntry, MessageSignature
from pratique.release.signing.dsse import Envelope, parse_envelope
from pratique.release.signing.interface import Attestation
from pratique.release.signing.verifier import BundleVerifier, Message
from pratique.release.statements import make_statement
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = ["LegacyLayer", "legacy_tags", "parse_legacy", "verify_legacy"]

_SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
_COSIGN: Final = "dev.sigstore.cosign/"


class _Wire(msgspec.Struct, frozen=True, rename="camel"):
    """Members that are not needed here are left out."""


class LegacyLayer(_Wire, frozen=True):
    """A layer that holds a signature or an attestation."""

    digest: str
    size: int
    media_type: str
    annotations: dict[str, str] = {}

    @property
    def blob(self) -> Blob:
        """Where its content lies."""
        return Blob(parse_digest(self.digest), self.size)

    @property
    def predicate_type(self) -> str:
        """What is said in it, as its annotation says."""
        return RELEASE if self.media_type == _SIMPLE_SIGNING else self.annotations.get("predicateType", "")


class _Manifest(_Wire, frozen=True):
    layers: tuple[LegacyLayer, ...]


class _LogPayload(msgspec.Struct, frozen=True):
    body: bytes
    integrated_at: int = msgspec.field(name="integratedTime")
    index: int = msgspec.field(name="logIndex")
    log_id: str = msgspec.field(name="logID")


class _LogBundle(msgspec.Struct, frozen=True):
    promise: bytes = msgspec.field(name="SignedEntryTimestamp")
    payload: _LogPayload = msgspec.field(name="Payload")


class _Timestamp(msgspec.Struct, frozen=True):
    response: bytes = msgspec.field(name="SignedRFC3161Timestamp")


class _Body(_Wire, frozen=True):
    kind: str
    api_version: str


class _Image(msgspec.Struct, frozen=True):
    digest: str = msgspec.field(name="docker-manifest-digest")


class _Critical(msgspec.Struct, frozen=True):
    image: _Image
    type: Literal["cosign container image signature"]


class _SimpleSigning(msgspec.Struct, frozen=True):
    critical: _Critical


def legacy_tags(subject: Digest) -> tuple[str, str]:
    """Return the tags of an image's signatures and attestations."""
    return f"{fallback_tag(subject)}.sig", f"{fallback_tag(subject)}.att"


def parse_legacy(content: bytes) -> tuple[LegacyLayer, ...]:
    """Return the layers of a manifest that hold signatures or attestations.

    Raises:
        VerificationError: it is no manifest.
    """
    try:
        layers = decode_json(content, _Manifest).layers
        for one in layers:
            parse_digest(one.digest)
    except (MalformedError, DigestError) as error:
        raise VerificationError(f"expected an image manifest: {error}") from error
    return tuple(one for one in layers if one.media_type in {_SIMPLE_SIGNING, _ENVELOPE})


def verify_legacy(layer: LegacyLayer, content: bytes, verifier: BundleVerifier) -> Attestation:
    """Return what a layer proves.

    Raises:
        VerificationError: it proves nothing.
    """
    try:
        if layer.media_type == _ENVELOPE:
            envelope = parse_envelope(content)
            return verifier.verify_statement(_bundle(envelope, layer.annotations), envelope, source=content)
        return _verify_signature(layer, content, verifier)
    except (MalformedError, DigestError, ValueError) as error:  # base64, PEM, hexadecimal
        raise VerificationError(f"a signature in cosign's older layout is malformed: {error}") from error


def _verify_signature(layer: LegacyLayer, content: bytes, verifier: BundleVerifier) -> Attestation:
    signature = base64.b64decode(layer.annotations.get(_SIGNATURE, ""), validate=True)
    bundle = _bundle(MessageSignature(signature, None), layer.annotations)
    verified = verifier.verify_artifact(bundle, Message.of(content))
    image = parse_digest(decode_json(content, _SimpleSigning).critical.image.digest)
    # The payload is the same for all who sign an image: its own signature tells one from the others.
    return Attestation(make_statement(image, RELEASE, {}), verified.signer, verified.signed_at, digest_of(signature))


def _bundle(content: Envelope | MessageSignature, annotations: Mapping[str, str]) -> Bundle:
    """Gather what annotations say into what a bundle would have said. Without a certificate, a key must have signed."""
    pem = annotations.get(f"{_COSIGN}certificate")
    certificate = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER) if pem else None
    logged = annotations.get(f"{_COSIGN}bundle")
    stamp = annotations.get(f"{_COSIGN}rfc3161timestamp")
    return Bundle(
        content=content,
        certificate=certificate,
        hint=None if certificate else "",
        entries=(_entry(logged),) if logged else (),
        timestamps=(decode_json(stamp, _Timestamp).response,) if stamp else (),
    )


def _entry(logged: str) -> LogEntry:
    wire = decode_json(logged, _LogBundle)
    body = decode_json(wire.payload.body, _Body)
    return LogEntry(
        log_id=bytes.fromhex(wire.payload.log_id),
        index=wire.payload.index,
        kind=body.kind,
        version=body.api_version,
        body=wire.payload.body,
        integrated_at=wire.payload.integrated_at,
        promise=wire.promise,
        proof=None,
    )
