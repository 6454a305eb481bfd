"""What a verifier must refuse, and what it must not: each test changes one thing of a bundle that verifies."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pratique.release.errors import VerificationError
from pratique.release.signing.bundle import BUNDLE_V03
from pratique.release.signing.dsse import pae
from pratique.release.signing.scripted import ScriptedInstance, b64
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import PAYLOAD_TYPE, Statement, make_statement
from pratique.release.values import CertificateIdentity, digest_of

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


def flipped(text: str) -> str:
    """Change a bit in the middle of what base64 stands for."""
    raw = bytearray(base64.b64decode(text))
    raw[len(raw) // 2] ^= 1
    return b64(bytes(raw))


def test_a_bundle_proves_its_statement_its_signer_and_its_time(
    verifier: BundleVerifier, signed: Bundle, statement: Statement
) -> None:
    content = encode(signed)
    proved = verifier.verify(content)
    assert proved.statement == statement
    assert (proved.signer, proved.signed_at, proved.bundle) == (ALICE, AT, digest_of(content))


def test_a_workflow_is_named_by_its_uri(
    instance: ScriptedInstance, verifier: BundleVerifier, statement: Statement
) -> None:
    bundle = instance.sign(statement.payload, WORKFLOW, at=AT)
    assert verifier.verify(encode(bundle)).signer == WORKFLOW


@pytest.mark.slow
def test_sigstore_python_accepts_the_same_bundle(
    instance: ScriptedInstance, verifier: BundleVerifier, tmp_path: Path
) -> None:
    """Our instance must be one in the eyes of others, or our vectors would only prove that we agree with ourselves."""
    from sigstore.models import Bundle as TheirBundle
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

    named = make_statement(digest_of(b"image"), "urn:x", {}, name="image")
    bundle = encode(instance.sign(named.payload, ALICE, at=AT))
    root = tmp_path / "trusted_root.json"
    root.write_bytes(instance.trust_root_json())
    theirs = Verifier(trusted_root=TrustedRoot.from_file(str(root)))
    policy = Identity(identity=ALICE.subject, issuer=ALICE.issuer)
    assert theirs.verify_dsse(TheirBundle.from_json(bundle), policy)[1] == named.payload
    assert verifier.verify(bundle).statement.payload == named.payload


def _edit_payload(bundle: Bundle) -> None:
    bundle["dsseEnvelope"]["payload"] = flipped(bundle["dsseEnvelope"]["payload"])


def _edit_type(bundle: Bundle) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "application/json"


def _edit_signature(bundle: Bundle) -> None:
    one = bundle["dsseEnvelope"]["signatures"][0]
    one["sig"] = flipped(one["sig"])


def _drop_entries(bundle: Bundle) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def _edit_body(bundle: Bundle) -> None:
    entry_of(bundle)["canonicalizedBody"] = flipped(entry_of(bundle)["canonicalizedBody"])


def _edit_root_hash(bundle: Bundle) -> None:
    proof = entry_of(bundle)["inclusionProof"]
    proof["rootHash"] = flipped(proof["rootHash"])


def _edit_path(bundle: Bundle) -> None:
    hashes_ = entry_of(bundle)["inclusionProof"]["hashes"]
    hashes_[0] = flipped(hashes_[0])


def _shorten_path(bundle: Bundle) -> None:
    entry_of(bundle)["inclusionProof"]["hashes"].pop()


def _lengthen_path(bundle: Bundle) -> None:
    entry_of(bundle)["inclusionProof"]["hashes"].append(b64(b"0" * 32))


def _endless_path(bundle: Bundle) -> None:
    entry_of(bundle)["inclusionProof"]["hashes"] = [b64(b"0" * 32)] * 64


def _move_in_tree(bundle: Bundle) -> None:
    entry_of(bundle)["inclusionProof"]["logIndex"] = "0"


def _index_outside_tree(bundle: Bundle) -> None:
    proof = entry_of(bundle)["inclusionProof"]
    proof["logIndex"] = proof["treeSize"]


def _other_tree_size(bundle: Bundle) -> None:
    proof = entry_of(bundle)["inclusionProof"]
    proof["treeSize"] = str(int(proof["treeSize"]) + 1)


def _edit_checkpoint(text: str, other: str) -> Callable[[Bundle], None]:
    def change(bundle: Bundle) -> None:
        checkpoint = entry_of(bundle)["inclusionProof"]["checkpoint"]
        assert text in checkpoint["envelope"]
        checkpoint["envelope"] = checkpoint["envelope"].replace(text, other)

    change.__name__ = f"_checkpoint_{text!r}_as_{other!r}"
    return change


def _unsigned_checkpoint(bundle: Bundle) -> None:
    checkpoint = entry_of(bundle)["inclusionProof"]["checkpoint"]
    checkpoint["envelope"] = checkpoint["envelope"].split("\n\n")[0] + "\n\n"


def _checkpoint_with_edited_signature(bundle: Bundle) -> None:
    checkpoint = entry_of(bundle)["inclusionProof"]["checkpoint"]
    note, _, line = checkpoint["envelope"].partition("\n\n")
    *words, signature = line.strip().split(" ")
    checkpoint["envelope"] = f"{note}\n\n{' '.join([*words, flipped(signature)])}\n"


def _unknown_log(bundle: Bundle) -> None:
    entry_of(bundle)["logId"]["keyId"] = b64(b"0" * 32)


def _unknown_kind(bundle: Bundle) -> None:
    entry_of(bundle)["kindVersion"]["kind"] = "alpine"


def _other_kind(bundle: Bundle) -> None:
    entry_of(bundle)["kindVersion"] = {"kind": "intoto", "version": "0.0.2"}


def _edit_certificate(bundle: Bundle) -> None:
    certificate = bundle["verificationMaterial"]["certificate"]
    certificate["rawBytes"] = flipped(certificate["rawBytes"])


def _no_certificate(bundle: Bundle) -> None:
    bundle["verificationMaterial"]["certificate"]["rawBytes"] = b64(b"certificate")


@pytest.mark.parametrize(
    "change",
    [
        _edit_payload,
        _edit_type,
        _edit_signature,
        _drop_entries,
        _edit_body,
        _edit_root_hash,
        _edit_path,
        _shorten_path,
        _lengthen_path,
        _endless_path,
        _move_in_tree,
        _index_outside_tree,
        _other_tree_size,
        _edit_checkpoint("rekor.example\n", "other.example\n"),
        _edit_checkpoint("rekor.example\n", "\n"),
        _edit_checkpoint("\u2014", "-"),
        _unsigned_checkpoint,
        _checkpoint_with_edited_signature,
        _unknown_log,
        _unknown_kind,
        _other_kind,
        _edit_certificate,
        _no_certificate,
    ],
    ids=lambda change: change.__name__.strip("_"),
)
def test_a_bundle_of_which_anything_was_changed_proves_nothing(
    verifier: BundleVerifier, signed: Bundle, change: Callable[[Bundle], None]
) -> None:
    change(signed)
    with pytest.raises(VerificationError):
        verifier.verify(encode(signed))


def test_an_entry_about_another_signature_does_not_stand_in(
    instance: ScriptedInstance, verifier: BundleVerifier, signed: Bundle, statement: Statement
) -> None:
    """CVE-2022-36056: the proof is good, of something else."""
    other = instance.sign(statement.payload, ALICE, at=AT)
    signed["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    with pytest.raises(VerificationError, match="the log entry"):
        verifier.verify(encode(signed))


def test_a_checkpoint_that_witnesses_signed_too_is_good(verifier: BundleVerifier, signed: Bundle) -> None:
    checkpoint = entry_of(signed)["inclusionProof"]["checkpoint"]
    note, _, lines = checkpoint["envelope"].partition("\n\n")
    witness = f"\u2014 witness.example {b64(b'12345678')}\n"
    checkpoint["envelope"] = f"{note}\n\n{witness}\u2014 odd !!!\n{lines}{witness}"
    assert verifier.verify(encode(signed)).signer == ALICE


def test_a_bundle_of_another_instance_proves_nothing(signed: Bundle) -> None:
    stranger = BundleVerifier(root=parse_trust_root(ScriptedInstance().trust_root_json()))
    with pytest.raises(VerificationError, match=r"knows no log|no trusted authority made"):
        stranger.verify(encode(signed))


def test_without_a_trust_root_no_certificate_is_believed(signed: Bundle) -> None:
    with pytest.raises(VerificationError, match="no trust root was given"):
        BundleVerifier().verify(encode(signed))


def changed_root(instance: ScriptedInstance, member: str, period: dict[str, str]) -> BundleVerifier:
    root = instance.trusted_root()
    for one in root[member]:
        one.get("publicKey", one)["validFor"] = period
    return BundleVerifier(root=parse_trust_root(msgspec.json.encode(root)))


@pytest.mark.parametrize("member", ["tlogs", "ctlogs", "certificateAuthorities"])
def test_what_is_trusted_is_so_from_its_first_to_its_last_moment(
    instance: ScriptedInstance, signed: Bundle, member: str
) -> None:
    just, before, after = "2026-03-01T12:00:00Z", "2026-03-01T11:59:59Z", "2026-03-01T12:00:01Z"
    assert changed_root(instance, member, {"start": just, "end": just}).verify(encode(signed)).signer == ALICE
    for period in ({"start": after}, {"start": "2020-01-01T00:00:00Z", "end": before}):
        with pytest.raises(VerificationError, match="trusted"):
            changed_root(instance, member, period).verify(encode(signed))


def test_a_time_outside_the_certificates_minutes_proves_nothing(
    instance: ScriptedInstance, verifier: BundleVerifier, statement: Statement
) -> None:
    late = AT + dt.timedelta(minutes=11)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = instance.issue(key.public_key(), ALICE, at=AT)
    with pytest.raises(VerificationError, match="no trusted authority issued the certificate"):
        verifier.verify(encode(assembled(instance, statement, key, certificate, at=late)))


def assembled(
    instance: ScriptedInstance,
    statement: Statement,
    key: ec.EllipticCurvePrivateKey,
    certificate: x509.Certificate,
    *,
    at: dt.datetime,
) -> Bundle:
    """A bundle under a certificate of one's own making, logged and stamped like any other."""
    signature = key.sign(pae(PAYLOAD_TYPE, statement.payload), ec.ECDSA(hashes.SHA256()))
    stamps = [{"signedTimestamp": b64(instance.tsa.stamp(signature, at))}]
    return {
        "mediaType": BUNDLE_V03,
        "verificationMaterial": {
            "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
            "tlogEntries": [instance.log_envelope(statement.payload, signature, certificate, at=at)],
            "timestampVerificationData": {"rfc3161Timestamps": stamps},
        },
        "dsseEnvelope": {
            "payload": b64(statement.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": b64(signature)}],
        },
    }


def test_a_log_and_an_authority_that_both_saw_a_signature_must_both_agree(
    instance: ScriptedInstance, verifier: BundleVerifier, statement: Statement
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = instance.issue(key.public_key(), ALICE, at=AT)
    bundle = assembled(instance, statement, key, certificate, at=AT)
    assert verifier.verify(encode(bundle)).signed_at == AT
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    late = b64(instance.tsa.stamp(signature, AT + dt.timedelta(minutes=11)))
    bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"].append({"signedTimestamp": late})
    with pytest.raises(VerificationError, match="no trusted authority issued the certificate"):
        verifier.verify(encode(bundle))


def test_a_rekor_v2_entry_needs_a_time_stamp(
    signed: Bundle, verifier: BundleVerifier, instance: ScriptedInstance
) -> None:
    signed["verificationMaterial"].pop("timestampVerificationData", None)
    entry_of(signed).pop("inclusionPromise", None)
    with pytest.raises(VerificationError, match="nothing proves one"):
        verifier.verify(encode(signed))


def test_an_integrated_time_counts_only_with_the_promise_that_signs_it(
    signed: Bundle, verifier: BundleVerifier
) -> None:
    signed["verificationMaterial"].pop("timestampVerificationData", None)
    entry_of(signed).pop("inclusionPromise", None)
    entry_of(signed)["integratedTime"] = str(int(AT.timestamp()))
    with pytest.raises(VerificationError, match="nothing proves one"):
        verifier.verify(encode(signed))
