from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.core.errors import CallerError
from pratique.release.errors import VerificationError
from pratique.release.signing import artifact as artifacts
from pratique.release.signing.artifact import load_artifact, verify_bundle
from pratique.release.signing.bundle import BUNDLE_V03
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.scripted import b64
from pratique.release.signing.verifier import BundleVerifier, Message
from pratique.release.statements import Statement
from pratique.release.values import CertificateIdentity, KeyIdentity

pytestmark = pytest.mark.unit

ALICE = CertificateIdentity("https://login.example", "alice@example.com")
IMAGE = Message.of(b"image")


def test_an_artifact_is_a_file_or_a_digest_that_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image").write_bytes(b"image")
    name = f"sha256:{IMAGE.sha256.hex()}"
    assert load_artifact("image") == IMAGE
    assert load_artifact(name) == Message(IMAGE.sha256)
    (tmp_path / name).write_bytes(b"other")
    assert load_artifact(name) == Message.of(b"other")
    for none in ("none", "sha256:00", name.upper()):
        with pytest.raises(CallerError, match="cannot be read"):
            load_artifact(none)


def test_a_large_artifact_is_known_by_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_MAX_WHOLE_BYTES", 3)
    (tmp_path / "image").write_bytes(b"image")
    assert load_artifact(str(tmp_path / "image")) == Message(IMAGE.sha256)


def test_a_statement_counts_for_its_subject_and_signer_alone(verifier: BundleVerifier, signed: dict[str, Any]) -> None:
    bundle = msgspec.json.encode(signed)
    assert verify_bundle(bundle, IMAGE, verifier=verifier, expected=ALICE).signer == ALICE
    with pytest.raises(VerificationError, match="about another artifact"):
        verify_bundle(bundle, Message.of(b"other"), verifier=verifier, expected=ALICE)
    for stranger in (
        CertificateIdentity(ALICE.issuer, "mallory@example.com"),
        CertificateIdentity("https://other.example", ALICE.subject),
    ):
        with pytest.raises(VerificationError, match="expected the signer"):
            verify_bundle(bundle, IMAGE, verifier=verifier, expected=stranger)


def over_artifact(key: FileKey, *, claimed: bytes | None = None) -> bytes:
    public = parse_public_key(key.public_key_der)
    signature: dict[str, Any] = {"signature": b64(key.sign(b"image"))}
    if claimed is not None:
        digest = hashlib.sha256(claimed).digest()
        signature["messageDigest"] = {"algorithm": "SHA2_256", "digest": b64(digest)}
    material = {"publicKey": {"hint": public.hint}}
    return msgspec.json.encode(
        {"mediaType": BUNDLE_V03, "verificationMaterial": material, "messageSignature": signature}
    )


def test_a_signature_over_the_artifact_itself(file_key: FileKey) -> None:
    public = parse_public_key(file_key.public_key_der)
    checks, expected = BundleVerifier((public,)), KeyIdentity(public.fingerprint)
    for claimed in (None, b"image"):
        bundle = over_artifact(file_key, claimed=claimed)
        assert verify_bundle(bundle, IMAGE, verifier=checks, expected=expected).signer == expected
    with pytest.raises(VerificationError, match="its digest differs"):
        verify_bundle(over_artifact(file_key, claimed=b"other"), IMAGE, verifier=checks, expected=expected)
    with pytest.raises(VerificationError, match="none of the 1 accepted keys"):
        verify_bundle(over_artifact(file_key), Message.of(b"other"), verifier=checks, expected=expected)


def test_a_statement_is_no_signature_over_an_artifact(file_key: FileKey, statement: Statement) -> None:
    from pratique.release.signing.bundle import parse_bundle

    bundle = parse_bundle(KeyedSigner(file_key).sign(statement.payload))
    with pytest.raises(VerificationError, match="got a signed statement"):
        BundleVerifier().verify_artifact(bundle, IMAGE)


def test_a_digest_alone_is_verified_where_the_key_allows_it(file_key: FileKey) -> None:
    public = parse_public_key(file_key.public_key_der)
    checks, expected = BundleVerifier((public,)), KeyIdentity(public.fingerprint)
    bundle = over_artifact(file_key)
    if "secp" in getattr(getattr(public.key, "curve", None), "name", ""):
        assert verify_bundle(bundle, Message(IMAGE.sha256), verifier=checks, expected=expected).signer == expected
    else:
        with pytest.raises(VerificationError, match="none of the 1 accepted keys"):
            verify_bundle(bundle, Message(IMAGE.sha256), verifier=checks, expected=expected)
