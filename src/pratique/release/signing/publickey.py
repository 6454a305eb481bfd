"""Public keys: what they are called, and whether a signature is theirs.

The hash is the key's, never the signature's or the sender's to choose. Known are ECDSA on P-256 (SHA-256), P-384
(SHA-384) and P-521 (SHA-512), Ed25519, and RSA from 2048 bits on (PKCS #1 v1.5, SHA-256): what Sigstore's instances
and cosign's keys use (sigstore/architecture-docs, `algorithm-registry.md`).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from pratique.release.errors import VerificationError
from pratique.release.values import Digest, digest_of

__all__ = ["PublicKey", "parse_public_key", "public_key_of"]

_Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
_MIN_RSA_BITS: Final = 2048
_CURVES: Final[dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]] = {
    "secp256r1": hashes.SHA256,
    "secp384r1": hashes.SHA384,
    "secp521r1": hashes.SHA512,
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies."""

    key: _Key
    der: bytes
    """The SubjectPublicKeyInfo (RFC 5280, 4.1)."""

    @property
    def fingerprint(self) -> Digest:
        """The SHA-256 of the SubjectPublicKeyInfo: the key's name."""
        return digest_of(self.der)

    @property
    def hint(self) -> str:
        """The same in base64, as bundles write it."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def pem(self) -> bytes:
        """The key as people keep it in files."""
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Make sure that this key signed a message.

        Raises:
            VerificationError: it did not.
        """
        self._verify(signature, message, _hash_of(self.key))

    def verify_sha256(self, signature: bytes, sha256: bytes) -> None:
        """Make sure that this key signed something with this SHA-256.

        Raises:
            VerificationError: it did not, or keys of its kind do not sign by SHA-256.
        """
        if not isinstance(_hash_of(self.key), hashes.SHA256):
            raise VerificationError("keys of this kind do not sign by SHA-256: the artifact itself must be given")
        self._verify(signature, sha256, Prehashed(hashes.SHA256()))

    def _verify(self, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm | Prehashed | None) -> None:
        key, by = self.key, algorithm or hashes.SHA256()
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, data)  # hashes by itself
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, data, ec.ECDSA(by))
            else:
                key.verify(signature, data, padding.PKCS1v15(), by)
        except InvalidSignature as error:
            raise VerificationError(f"the signature is not that of key {self.fingerprint}") from error


def _hash_of(key: _Key) -> hashes.HashAlgorithm | None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES[key.curve.name]()
    return hashes.SHA256() if isinstance(key, rsa.RSAPublicKey) else None


def public_key_of(key: object) -> PublicKey:
    """Return a key that `cryptography` has read, if it is of a kind that is known here.

    Raises:
        VerificationError: it is not.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise VerificationError(f"expected a key on P-256, P-384 or P-521, got one on {key.curve.name}")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise VerificationError(f"expected an RSA key of at least {_MIN_RSA_BITS} bits, got {key.key_size}")
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise VerificationError(f"expected an ECDSA, Ed25519 or RSA key, got {type(key).__name__}")
    return PublicKey(key, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def parse_public_key(content: bytes) -> PublicKey:
    """Read a public key, PEM or DER.

    Raises:
        VerificationError: it is none, or of a kind that is not known.
    """
    load = load_pem_public_key if content.lstrip().startswith(b"-----BEGIN") else load_der_public_key
    try:
        return public_key_of(load(content))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationError(f"expected a public key in PEM or DER: {error}") from error
