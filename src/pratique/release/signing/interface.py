"""How statements are signed and verified, whoever holds the key.

A bundle is a Sigstore bundle v0.3 in JSON, which cosign reads and writes. What a verifier returns is true as far as
mathematics goes: who signed and what was signed. Whether that signer may say so is the policy's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pratique.release.statements import Statement
from pratique.release.values import Digest, Signer, Subject

__all__ = ["Attestation", "Dossier", "KeyHandle", "StatementSigner", "Unverified", "Verifier"]


@dataclass(frozen=True, slots=True)
class Attestation:
    """A statement whose signature holds."""

    statement: Statement
    signer: Signer
    signed_at: datetime | None
    """By a transparency log or a time stamp authority; None where only a key vouches, which knows no time."""
    bundle: Digest
    """The bundle that it was read from: revocations may name it."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """Something that lies beside an artifact as evidence, and proves nothing."""

    where: str
    """The digest or tag that it was found under."""
    reason: str
    predicate_type: str = ""
    """As it calls itself, where that could be read: to say what is missing, never to decide by."""


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that lies in a registry about one artifact: what holds, and what does not."""

    subject: Subject
    attestations: tuple[Attestation, ...]
    unverified: tuple[Unverified, ...]


class StatementSigner(Protocol):
    """Signs statements."""

    def sign(self, payload: bytes) -> bytes:
        """Return a bundle over a statement's bytes.

        Raises:
            UnavailableError: the key service, the certificate authority or the log did not answer.
            RefusedError: it answered no.
        """
        ...


class Verifier(Protocol):
    """Verifies bundles offline."""

    def verify(self, bundle: bytes) -> Attestation:
        """Return what the bundle proves.

        Raises:
            VerificationError: it proves nothing; the message says at which step.
        """
        ...


class KeyHandle(Protocol):
    """A private key that stays where it is: a file, or a key management service."""

    @property
    def public_key_der(self) -> bytes:
        """The SubjectPublicKeyInfo (RFC 5280)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return a signature: ECDSA over SHA-256 in DER for P-256 keys, Ed25519 as it is.

        Raises:
            UnavailableError: the key service did not answer.
        """
        ...
