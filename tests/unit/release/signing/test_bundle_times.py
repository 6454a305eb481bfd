"""Promises of logs and stamps of authorities: when a signature existed."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pratique.release.errors import VerificationError
from pratique.release.signing.scripted import ScriptedInstance, b64
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import Statement
from pratique.release.values import CertificateIdentity

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


def changed_root(instance: ScriptedInstance, member: str, period: dict[str, str]) -> BundleVerifier:
    root = instance.trusted_root()
    for one in root[member]:
        one.get("publicKey", one)["validFor"] = period
    return BundleVerifier(root=parse_trust_root(msgspec.json.encode(root)))


class TestPromises:
    """Signed entry timestamps, of Rekor v1."""

    old = ScriptedInstance(rekor=1)
    checks = BundleVerifier(root=parse_trust_root(old.trust_root_json()))

    @pytest.fixture
    def bundle(self, statement: Statement) -> Bundle:
        return self.old.sign(statement.payload, ALICE, at=AT)

    @pytest.mark.parametrize(
        "change",
        [
            {"integratedTime": str(int(AT.timestamp()) + 1)},
            {"integratedTime": "99999999999999999"},
            {"logIndex": "7"},
            {"inclusionPromise": {"signedEntryTimestamp": "AAAA"}},
        ],
    )
    def test_a_promise_about_another_time_or_place_does_not_hold(self, bundle: Bundle, change: dict[str, Any]) -> None:
        entry_of(bundle).update(change)
        with pytest.raises(VerificationError, match="promise"):
            self.checks.verify(encode(bundle))

    def test_an_entry_for_a_time_that_no_clock_has_is_refused(self, bundle: Bundle) -> None:
        entry = entry_of(bundle)
        endless = 10**15
        promised = {
            "body": entry["canonicalizedBody"],
            "integratedTime": endless,
            "logID": self.old.log.id.hex(),
            "logIndex": int(entry["logIndex"]),
        }
        assert isinstance(self.old.log.key, ec.EllipticCurvePrivateKey)
        signature = self.old.log.key.sign(msgspec.json.encode(promised), ec.ECDSA(hashes.SHA256()))
        entry["integratedTime"] = str(endless)
        entry["inclusionPromise"] = {"signedEntryTimestamp": b64(signature)}
        with pytest.raises(VerificationError, match="no time"):
            self.checks.verify(encode(bundle))

    def test_a_bundle_of_0_1_may_have_a_promise_alone(self, bundle: Bundle) -> None:
        material = bundle["verificationMaterial"]
        material["x509CertificateChain"] = {"certificates": [material.pop("certificate")]}
        bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1"
        del entry_of(bundle)["inclusionProof"]
        assert self.checks.verify(encode(bundle)).signed_at == AT
        del entry_of(bundle)["inclusionPromise"]
        with pytest.raises(VerificationError, match="inclusion proof"):
            self.checks.verify(encode(bundle))


class TestTimestamps:
    @pytest.fixture
    def bundle(self, statement: Statement) -> Bundle:
        return self.new.sign(statement.payload, ALICE, at=AT)

    new = ScriptedInstance(rekor=2)
    checks = BundleVerifier(root=parse_trust_root(new.trust_root_json()))

    def stamp(self, bundle: Bundle, response: bytes) -> bytes:
        stamps = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
        stamps[0]["signedTimestamp"] = b64(response)
        return encode(bundle)

    def signature(self, bundle: Bundle) -> bytes:
        return base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])

    def test_over_another_signature(self, bundle: Bundle) -> None:
        with pytest.raises(VerificationError, match="Mismatch between messages"):
            self.checks.verify(self.stamp(bundle, self.new.tsa.stamp(b"other", AT)))

    def test_of_an_authority_that_is_not_trusted(self, bundle: Bundle) -> None:
        stranger = ScriptedInstance().tsa
        with pytest.raises(VerificationError, match="no trusted authority made the time stamp"):
            self.checks.verify(self.stamp(bundle, stranger.stamp(self.signature(bundle), AT)))

    def test_at_a_time_when_the_authoritys_certificate_was_not_valid(self, bundle: Bundle) -> None:
        never = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
        with pytest.raises(VerificationError, match="no trusted authority made the time stamp"):
            self.checks.verify(self.stamp(bundle, self.new.tsa.stamp(self.signature(bundle), never)))

    def test_that_is_no_response(self, bundle: Bundle) -> None:
        with pytest.raises(VerificationError, match="expected an RFC 3161 response"):
            self.checks.verify(self.stamp(bundle, b"stamp"))

    def test_at_the_authoritys_first_and_last_moment_and_outside(self, bundle: Bundle) -> None:
        just, before = "2026-03-01T12:00:00Z", "2026-03-01T11:59:59Z"
        whole = changed_root(self.new, "timestampAuthorities", {"start": just, "end": just})
        assert whole.verify(encode(bundle)).signed_at == AT
        ended = changed_root(self.new, "timestampAuthorities", {"start": "2020-01-01T00:00:00Z", "end": before})
        with pytest.raises(VerificationError, match="it is not trusted for"):
            ended.verify(encode(bundle))

    def test_of_an_authority_whose_chain_the_root_does_not_have(self, bundle: Bundle) -> None:
        root = self.new.trusted_root()
        del root["timestampAuthorities"][0]["certChain"]["certificates"][1:]
        checks = BundleVerifier(root=parse_trust_root(msgspec.json.encode(root)))
        with pytest.raises(VerificationError, match="no chain for it"):
            checks.verify(encode(bundle))
        root["timestampAuthorities"] = []
        checks = BundleVerifier(root=parse_trust_root(msgspec.json.encode(root)))
        with pytest.raises(VerificationError, match="there is none"):
            checks.verify(encode(bundle))
