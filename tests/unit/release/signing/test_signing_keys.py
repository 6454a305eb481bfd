from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError, VerificationError
from pratique.release.signing import keys
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey, KeyFileError, KeyKind, create_key, load_key, load_public_key
from pratique.release.signing.publickey import parse_public_key, public_key_of
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
@pytest.mark.parametrize("password", [b"open sesame", None])
def test_a_key_that_was_made_signs_what_its_public_half_verifies(
    tmp_path: Path, kind: KeyKind, password: bytes | None
) -> None:
    file = tmp_path / "signing.key"
    created = create_key(file, kind=kind, password=password)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in file.read_bytes()) is (password is not None)
    public = load_public_key(tmp_path / "signing.key.pub")
    assert public.der == created.public_key_der
    assert public.fingerprint == digest_of(public.der)
    signature = load_key(file, password=password).sign(b"message")
    public.verify(signature, b"message")
    with pytest.raises(VerificationError, match="not that of key sha256:"):
        public.verify(signature, b"another")


@pytest.mark.parametrize("taken", ["signing.key", "signing.key.pub"])
def test_a_key_never_overwrites_a_file(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(KeyFileError, match="is there already"):
        create_key(tmp_path / "signing.key", kind="p256", password=None)
    assert [file.name for file in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_a_key_in_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be written"):
        create_key(tmp_path / "none" / "signing.key", kind="p256", password=None)


def test_a_wrong_missing_or_needless_password_opens_nothing(tmp_path: Path) -> None:
    create_key(tmp_path / "locked", kind="p256", password=b"right")
    create_key(tmp_path / "plain", kind="p256", password=None)
    for name, password in (("locked", b"wrong"), ("locked", None), ("plain", b"any")):
        with pytest.raises(KeyFileError, match="does not open"):
            load_key(tmp_path / name, password=password)


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no key in PKCS #8 PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no key in PKCS #8 PEM"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "cosign's own"),
        (b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n", "cosign's own"),
        (private_pem(ec.generate_private_key(ec.SECP384R1())), "expected a key on P-256 or Ed25519"),
        (private_pem(rsa.generate_private_key(65537, 2048)), "expected a key on P-256 or Ed25519"),
        (b"x" * 100_000, "more than 65536 bytes"),
    ],
)
def test_what_is_no_key_of_a_kind_that_is_known_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "signing.key").write_bytes(content)
    with pytest.raises(KeyFileError, match=message):
        load_key(tmp_path / "signing.key")


def test_a_key_file_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    for load in (load_key, load_public_key):
        with pytest.raises(CallerError, match="cannot be read: No such file"):
            load(tmp_path / "none")


def test_keys_never_print_what_is_secret(tmp_path: Path) -> None:
    assert "PRIVATE" not in repr(create_key(tmp_path / "signing.key", kind="p256", password=None))
    assert keys.__all__


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_the_hash_is_the_keys(curve: ec.EllipticCurve) -> None:
    from cryptography.hazmat.primitives import hashes

    key = ec.generate_private_key(curve)
    public = public_key_of(key.public_key())
    own = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}[curve.name]
    public.verify(key.sign(b"m", ec.ECDSA(own)), b"m")
    for other in (hashes.SHA1(), hashes.SHA224()):  # noqa: S303 - that it is refused is the point
        with pytest.raises(VerificationError):
            public.verify(key.sign(b"m", ec.ECDSA(other)), b"m")


def test_a_digest_suffices_only_for_keys_that_sign_by_sha256() -> None:
    import hashlib

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    digest = hashlib.sha256(b"m").digest()
    p256, big = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    public_key_of(p256.public_key()).verify_sha256(p256.sign(b"m", ec.ECDSA(hashes.SHA256())), digest)
    signature = big.sign(b"m", padding.PKCS1v15(), hashes.SHA256())
    public_key_of(big.public_key()).verify_sha256(signature, digest)
    public_key_of(big.public_key()).verify(signature, b"m")
    for key in (ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()):
        with pytest.raises(VerificationError, match="the artifact itself must be given"):
            public_key_of(key.public_key()).verify_sha256(b"", digest)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "one on secp256k1"),
        (rsa.generate_private_key(65537, 1024).public_key(), "at least 2048 bits"),  # noqa: S505 - to be refused
        (x25519.X25519PrivateKey.generate().public_key(), "X25519PublicKey"),
    ],
)
def test_weak_and_unknown_kinds_of_keys_are_refused(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | x25519.X25519PublicKey, message: str
) -> None:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(VerificationError, match=message):
        parse_public_key(der)


@pytest.mark.parametrize("content", [b"", b"key", b"-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_public_key_is_refused(content: bytes) -> None:
    with pytest.raises(VerificationError, match="expected a public key in PEM or DER"):
        parse_public_key(content)


def test_nothing_but_a_statement_is_signed(file_key: FileKey) -> None:
    with pytest.raises(EvidenceError):
        KeyedSigner(file_key).sign(b"{}")
