"""Bundles that a key signed."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.release.errors import VerificationError
from pratique.release.signing.bundle import BUNDLE_V03
from pratique.release.signing.dsse import pae
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey, create_key
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.scripted import ScriptedInstance, b64
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import PAYLOAD_TYPE, Statement
from pratique.release.values import CertificateIdentity, KeyIdentity, digest_of

pytestmark = pytest.mark.unit

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ALICE = CertificateIdentity("https://login.example", "alice@example.com")
WORKFLOW = CertificateIdentity("https://ci.example", "https://ci.example/org/repo/.ci/release.yml@refs/heads/main")
Bundle = dict[str, Any]


def encode(bundle: Bundle) -> bytes:
    return msgspec.json.encode(bundle)


def entry_of(bundle: Bundle) -> dict[str, Any]:
    entry: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]
    return entry


class TestKeys:
    def public(self, key: FileKey) -> KeyIdentity:
        return KeyIdentity(digest_of(key.public_key_der))

    def accepting(self, *keys: FileKey, **more: Any) -> BundleVerifier:
        return BundleVerifier(tuple(parse_public_key(key.public_key_der) for key in keys), **more)

    def test_a_key_vouches_for_its_statement_and_for_no_time(self, file_key: FileKey, statement: Statement) -> None:
        proved = self.accepting(file_key).verify(KeyedSigner(file_key).sign(statement.payload))
        assert (proved.statement, proved.signer, proved.signed_at) == (statement, self.public(file_key), None)

    def test_a_key_that_is_not_accepted_proves_nothing(
        self, file_key: FileKey, statement: Statement, tmp_path: Path
    ) -> None:
        other = create_key(tmp_path / "other.key", kind="p256", password=None)
        bundle = KeyedSigner(file_key).sign(statement.payload)
        for checks in (BundleVerifier(), self.accepting(other)):
            with pytest.raises(VerificationError, match=r"none of the [01] accepted keys"):
                checks.verify(bundle)
        assert self.accepting(other, file_key).verify(bundle).signer == self.public(file_key)

    def test_the_hint_may_lie_and_decides_nothing(
        self, file_key: FileKey, statement: Statement, tmp_path: Path
    ) -> None:
        other = create_key(tmp_path / "other.key", kind="p256", password=None)
        bundle = msgspec.json.decode(KeyedSigner(file_key).sign(statement.payload))
        bundle["verificationMaterial"]["publicKey"]["hint"] = parse_public_key(other.public_key_der).hint
        assert self.accepting(other, file_key).verify(encode(bundle)).signer == self.public(file_key)

    def test_what_a_keyed_bundle_has_of_logs_must_hold_all_the_same(
        self, instance: ScriptedInstance, signed: Bundle, file_key: FileKey, statement: Statement
    ) -> None:
        bundle = msgspec.json.decode(KeyedSigner(file_key).sign(statement.payload))
        bundle["verificationMaterial"]["tlogEntries"] = signed["verificationMaterial"]["tlogEntries"]
        with pytest.raises(VerificationError, match="no trust root was given"):
            self.accepting(file_key).verify(encode(bundle))
        checks = self.accepting(file_key, root=parse_trust_root(instance.trust_root_json()))
        with pytest.raises(VerificationError, match="names another key"):
            checks.verify(encode(bundle))

    def test_a_time_stamp_gives_a_keyed_bundle_its_time(
        self, instance: ScriptedInstance, file_key: FileKey, statement: Statement
    ) -> None:
        bundle = msgspec.json.decode(KeyedSigner(file_key).sign(statement.payload))
        signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
        stamps = [{"signedTimestamp": b64(instance.tsa.stamp(signature, AT))}]
        bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
        checks = self.accepting(file_key, root=parse_trust_root(instance.trust_root_json()))
        assert checks.verify(encode(bundle)).signed_at == AT

    def test_what_is_signed_must_be_a_statement(self, file_key: FileKey) -> None:
        signature = file_key.sign(pae(PAYLOAD_TYPE, b"{}"))
        public = parse_public_key(file_key.public_key_der)
        envelope = {"payload": b64(b"{}"), "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": b64(signature)}]}
        material = {"publicKey": {"hint": public.hint}}
        bundle = {"mediaType": BUNDLE_V03, "verificationMaterial": material, "dsseEnvelope": envelope}
        with pytest.raises(VerificationError, match="what was signed is no statement"):
            self.accepting(file_key).verify(encode(bundle))
        del bundle["dsseEnvelope"]
        bundle["messageSignature"] = {"signature": b64(file_key.sign(b"x"))}
        with pytest.raises(VerificationError, match="got a signature over an artifact"):
            self.accepting(file_key).verify(encode(bundle))


def test_no_key_is_tried_where_the_bundle_holds_a_certificate(
    verifier: BundleVerifier, signed: Bundle, file_key: FileKey
) -> None:
    checks = BundleVerifier((parse_public_key(file_key.public_key_der),), verifier.root)
    assert checks.verify(encode(signed)).signer == ALICE
