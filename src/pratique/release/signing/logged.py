"""What a log entry says was signed, and that it is what the bundle holds. Pure.

A proof that some entry is in a log proves nothing about a bundle unless the entry is about it: another entry could be
put in its place (CVE-2022-36056). So the signature, its signer, and the digest of what was signed must be the same.
Sources: sigstore/rekor `pkg/types` (hashedrekord, dsse, intoto 0.0.1 and 0.0.2), sigstore/rekor-tiles `CLIENTS.md`
(hashedrekord 0.0.2, where an envelope is logged by the digest of its pre-authentication encoding).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import VerificationError
from pratique.release.signing.bundle import LogEntry

__all__ = ["Signed", "verify_logged"]

_PEM: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----\s([A-Za-z0-9+/=\s]+)-----END \1-----\s*")


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed, by whom; None is what an entry does not say, or a bundle does not have."""

    signer: bytes
    """The certificate, or the SubjectPublicKeyInfo, in DER."""
    signature: bytes | None
    sha256: bytes | None
    """Of the bytes that the signature is over."""
    payload_sha256: bytes | None
    """Of an envelope's payload."""


class _Wire(msgspec.Struct, frozen=True, rename="camel"):
    """Base of entries' bodies, which the log has checked: members that are not compared are left out."""


class _Hash(_Wire, frozen=True):
    algorithm: Literal["sha256"]
    value: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.value)


class _Data(_Wire, frozen=True):
    hash: _Hash


class _Pem(_Wire, frozen=True):
    content: bytes


class _RekordSignature1(_Wire, frozen=True):
    content: bytes
    public_key: _Pem


class _HashedRekord1(_Wire, frozen=True):
    data: _Data
    signature: _RekordSignature1

    def said(self) -> Signed:
        return Signed(_der(self.signature.public_key.content), self.signature.content, self.data.hash.digest, None)


class _Raw(_Wire, frozen=True):
    raw_bytes: bytes


class _Verifier2(_Wire, frozen=True):
    x509_certificate: _Raw | None = None
    public_key: _Raw | None = None


class _RekordSignature2(_Wire, frozen=True):
    content: bytes
    verifier: _Verifier2


class _Digest2(_Wire, frozen=True):
    algorithm: Literal["SHA2_256"]
    digest: bytes


class _Rekord2(_Wire, frozen=True):
    data: _Digest2
    signature: _RekordSignature2


class _HashedRekord2(_Wire, frozen=True):
    rekord: _Rekord2 = msgspec.field(name="hashedRekordV002")

    def said(self) -> Signed:
        one = self.rekord.signature
        signer = one.verifier.x509_certificate or one.verifier.public_key
        return Signed(signer.raw_bytes if signer else b"", one.content, self.rekord.data.digest, None)


class _DsseSignature(_Wire, frozen=True):
    signature: bytes
    verifier: bytes


class _Dsse1(_Wire, frozen=True):
    payload_hash: _Hash
    signatures: tuple[_DsseSignature]

    def said(self) -> Signed:
        (one,) = self.signatures
        return Signed(_der(one.verifier), one.signature, None, self.payload_hash.digest)


class _IntotoSignature(_Wire, frozen=True):
    public_key: bytes
    sig: bytes


class _IntotoEnvelope(_Wire, frozen=True):
    signatures: tuple[_IntotoSignature]


class _IntotoContent(_Wire, frozen=True):
    payload_hash: _Hash
    envelope: _IntotoEnvelope


class _Intoto2(_Wire, frozen=True):
    content: _IntotoContent

    def said(self) -> Signed:
        (one,) = self.content.envelope.signatures
        # Rekor keeps the envelope's base64 text, in base64 again.
        signature = base64.b64decode(one.sig, validate=True)
        return Signed(_der(one.public_key), signature, None, self.content.payload_hash.digest)


class _IntotoHashes(_Wire, frozen=True):
    payload_hash: _Hash


class _Intoto1(_Wire, frozen=True):
    """Says no signature: that the signer and the payload are the same must do."""

    content: _IntotoHashes
    public_key: bytes

    def said(self) -> Signed:
        return Signed(_der(self.public_key), None, None, self.content.payload_hash.digest)


_Spec = _HashedRekord1 | _HashedRekord2 | _Dsse1 | _Intoto1 | _Intoto2


class _Body(_Wire, frozen=True):
    kind: str
    api_version: str
    spec: msgspec.Raw


_SPECS: Final[dict[tuple[str, str], type[_Spec]]] = {
    ("hashedrekord", "0.0.1"): _HashedRekord1,
    ("hashedrekord", "0.0.2"): _HashedRekord2,
    ("dsse", "0.0.1"): _Dsse1,
    ("intoto", "0.0.1"): _Intoto1,
    ("intoto", "0.0.2"): _Intoto2,
}


def verify_logged(entry: LogEntry, signed: Signed) -> None:
    """Make sure that a log entry is about what was signed.

    Raises:
        VerificationError: it is about something else, or of a kind that is not read.
    """
    logged = _logged(entry)
    if logged.signer != signed.signer:
        raise VerificationError("the log entry names another key or certificate than the bundle")
    if logged.signature not in {None, signed.signature}:
        raise VerificationError("the log entry is about another signature than the bundle's")
    if logged.sha256 not in {None, signed.sha256} or logged.payload_sha256 not in {None, signed.payload_sha256}:
        raise VerificationError("the log entry is about something else than what was signed: the digests differ")


def _logged(entry: LogEntry) -> Signed:
    try:
        body = decode_json(entry.body, _Body)
        kind = _SPECS.get((entry.kind, entry.version))
        if kind is None or (body.kind, body.api_version) != (entry.kind, entry.version):
            raise VerificationError(
                f"expected a log entry of a known kind, got '{entry.kind[:50]}' {entry.version[:50]}"
                f" (in its body '{body.kind[:50]}' {body.api_version[:50]})"
            )
        return decode_json(body.spec, kind).said()
    except (MalformedError, binascii.Error) as error:
        raise VerificationError(f"the log entry's body is malformed: {error}") from error


def _der(pem: bytes) -> bytes:
    match = _PEM.fullmatch(pem)
    if match is None:
        raise VerificationError("the log entry's key or certificate is not in PEM")
    return binascii.a2b_base64(match[2])
