"""The words that every room of governed releases shares: digests, subjects, and who signed.

Everything inside refers to digests. Names and tags are for people, and never decide.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from pratique.release.errors import DigestError

__all__ = ["CertificateIdentity", "Digest", "KeyIdentity", "Signer", "Subject", "digest_of", "parse_digest"]

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hexadecimal digits (OCI image specification, "Digests")."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


def parse_digest(text: str) -> Digest:
    """Return what was given as a digest.

    Raises:
        DigestError: it is none; tags and short forms are refused, because they move.
    """
    if not _DIGEST.fullmatch(text):
        raise DigestError(
            f"expected a digest, sha256: and 64 lower-case hexadecimal digits, got '{text[:100]}'",
            hint="A tag's digest is shown by: skopeo inspect --format '{{.Digest}}' docker://…",
        )
    return Digest(text)


def digest_of(content: bytes) -> Digest:
    """Return the SHA-256 of some bytes as a digest."""
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, slots=True)
class Subject:
    """An artifact in a repository: `host/path` without tag, and its manifest's digest."""

    repository: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """Signed by a key: the SHA-256 of its SubjectPublicKeyInfo in DER (RFC 5280, 4.1)."""

    key: Digest

    def __str__(self) -> str:
        return f"key {self.key}"


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """Signed under a Fulcio certificate: who vouched for the signer, and the signer's name there."""

    issuer: str
    subject: str

    def __str__(self) -> str:
        return f"{self.subject} (by {self.issuer})"


Signer = KeyIdentity | CertificateIdentity
