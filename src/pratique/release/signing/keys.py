"""Private keys in files: P-256 and Ed25519, as PKCS #8 in PEM, usually encrypted with a password.

A key is read when it is asked for and leaves this module only as a handle that signs. cosign's own encrypted format
(NaCl secretbox) is not read: no library that we have decrypts it. cosign takes keys from here by `import-key-pair`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pratique.core.errors import CallerError
from pratique.release.signing.publickey import PublicKey, parse_public_key, public_key_of

__all__ = ["FileKey", "KeyFileError", "KeyKind", "create_key", "load_key", "load_public_key"]

KeyKind = Literal["p256", "ed25519"]

_MAX_KEY_BYTES: Final = 64 * 1024
_COSIGN_LABELS: Final = (b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY")


class KeyFileError(CallerError):
    """A key file that is not there, is no key, or does not open with the password given."""

    code = "invalid_key_file"


@dataclass(frozen=True, slots=True)
class FileKey:
    """A `KeyHandle` over a key that was read from a file."""

    _key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

    @property
    def public_key_der(self) -> bytes:
        """The SubjectPublicKeyInfo (RFC 5280)."""
        return public_key_of(self._key.public_key()).der

    def sign(self, message: bytes) -> bytes:
        """Return a signature: ECDSA over SHA-256 in DER, or Ed25519."""
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(hashes.SHA256()))
        return self._key.sign(message)


def load_key(file: Path, *, password: bytes | None = None) -> FileKey:
    """Read a private key.

    Raises:
        KeyFileError: it cannot be read, is of another kind, or the password is missing or wrong.
    """
    content = _read(file)
    if any(label in content for label in _COSIGN_LABELS):
        raise KeyFileError(
            f"the key {file} is in cosign's own encrypted format, which is not read",
            hint="Make one with `pratique signing-key create`; cosign takes it by `cosign import-key-pair --key`.",
        )
    try:
        key = load_pem_private_key(content, password)
    except TypeError as error:  # a password for a plain key, or none for an encrypted one
        raise KeyFileError(f"the key {file} does not open: {error}", hint="Name the password's file.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"the key {file} does not open with this password, or is no key in PKCS #8 PEM") from error
    if isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1"
    ):
        return FileKey(key)
    raise KeyFileError(f"expected a key on P-256 or Ed25519 in {file}, got {type(key).__name__}")


def load_public_key(file: Path) -> PublicKey:
    """Read a public key, PEM or DER.

    Raises:
        KeyFileError: the file cannot be read.
        VerificationError: it holds no public key that is known here.
    """
    return parse_public_key(_read(file))


def create_key(file: Path, *, kind: KeyKind, password: bytes | None) -> FileKey:
    """Make a new key, and beside it `<file>.pub`. Files that are there are never overwritten.

    Args:
        file: the new file; only its owner may read it.
        kind: "p256" is what cosign makes and every verifier knows.
        password: None leaves the key unencrypted.

    Raises:
        KeyFileError: a file is there already, or cannot be written.
    """
    key = FileKey(ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else ed25519.Ed25519PrivateKey.generate())
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private = key._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)  # noqa: SLF001 - made here
    public = parse_public_key(key.public_key_der)
    public_file = file.with_name(file.name + ".pub")
    if public_file.exists():  # looked at first, so that no private key is left without its public half
        raise KeyFileError(f"{public_file} is there already", hint="Name a new file.")
    _write_new(file, private, mode=0o600)
    _write_new(public_file, public.pem, mode=0o644)
    return key


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"the key {file} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_KEY_BYTES:
        raise KeyFileError(f"the key {file} has more than {_MAX_KEY_BYTES} bytes")
    return content


def _write_new(file: Path, content: bytes, *, mode: int) -> None:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise KeyFileError(f"{file} is there already", hint="Name a new file.") from error
    except OSError as error:
        raise KeyFileError(f"{file} cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
