"""cosign's older layout: signatures and attestations as layers of an image."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.unit.release.signing.watched_registry import REPOSITORY, WatchedRegistry

from pratique.release.predicates import RELEASE, SBOM
from pratique.release.registry.interface import IMAGE_MANIFEST, Blob
from pratique.release.registry.names import fallback_tag
from pratique.release.signing import dossier as dossiers
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.dsse import Envelope, pae, wire_of
from pratique.release.signing.keys import FileKey
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.scripted import ScriptedInstance, b64
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import PAYLOAD_TYPE, make_statement
from pratique.release.values import CertificateIdentity, KeyIdentity, Subject, digest_of

pytestmark = pytest.mark.unit

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
IMAGE = b'{"schemaVersion":2}'
SUBJECT = Subject(REPOSITORY, digest_of(IMAGE))
STATEMENT = make_statement(SUBJECT.digest, SBOM, {})
ALICE = CertificateIdentity("https://login.example", "alice@example.com")
INSTANCE = ScriptedInstance(rekor=1)
ROOT = parse_trust_root(INSTANCE.trust_root_json())


@pytest.fixture(params=[False, True], ids=["plain", "referrers"])
def registry(request: pytest.FixtureRequest) -> WatchedRegistry:
    made = WatchedRegistry(has_referrers=request.param)
    made.push_image(IMAGE)
    return made


@pytest.fixture
def checks(file_key: FileKey) -> BundleVerifier:
    return BundleVerifier((parse_public_key(file_key.public_key_der),), ROOT)


SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
Spec = Callable[[str, str], tuple[str, str, Any]]


def reasons(registry: WatchedRegistry, checks: BundleVerifier) -> list[tuple[str, str, str]]:
    dossier = load_dossier(registry, SUBJECT, checks)
    assert dossier.attestations == ()
    return [(one.where, one.reason, one.predicate_type) for one in dossier.unverified]


def lay(registry: WatchedRegistry, tag: str, *layers: tuple[str, bytes, dict[str, str]]) -> None:
    wires = []
    for media_type, content, said in layers:
        blob: Blob = registry.put_blob(REPOSITORY, content)
        wires.append({"mediaType": media_type, "digest": blob.digest, "size": blob.size_bytes, "annotations": said})
    manifest = msgspec.json.encode({"schemaVersion": 2, "layers": wires})
    registry.put_manifest(REPOSITORY, f"{fallback_tag(SUBJECT.digest)}.{tag}", manifest, IMAGE_MANIFEST)


def make_payload(digest: str = SUBJECT.digest, kind: str = "cosign container image signature") -> bytes:
    image, identity = {"docker-manifest-digest": digest}, {"docker-reference": REPOSITORY}
    return msgspec.json.encode({"critical": {"identity": identity, "image": image, "type": kind}, "optional": None})


def test_a_signature_by_a_key_says_that_the_image_is_signed(
    registry: WatchedRegistry, checks: BundleVerifier, file_key: FileKey
) -> None:
    payload = make_payload()
    signature = b64(file_key.sign(payload))
    lay(registry, "sig", (SIMPLE, payload, {"dev.cosignproject.cosign/signature": signature}))
    (found,) = load_dossier(registry, SUBJECT, checks).attestations
    assert found.statement == make_statement(SUBJECT.digest, RELEASE, {})
    assert (found.signer, found.signed_at) == (KeyIdentity(digest_of(file_key.public_key_der)), None)


def keyless(message: bytes, spec: Spec) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = INSTANCE.issue(key.public_key(), ALICE, at=AT)
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    pem = certificate.public_bytes(Encoding.PEM)
    kind, version, body = spec(b64(signature), b64(pem))
    encoded = msgspec.json.encode({"apiVersion": version, "kind": kind, "spec": body})
    entry = INSTANCE.log.add(encoded, kind=kind, version=version, at=AT)
    logged = {
        "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
        "Payload": {
            "body": entry["canonicalizedBody"],
            "integratedTime": int(entry["integratedTime"]),
            "logIndex": int(entry["logIndex"]),
            "logID": INSTANCE.log.id.hex(),
        },
    }
    return {
        "dev.cosignproject.cosign/signature": b64(signature),
        "dev.sigstore.cosign/certificate": pem.decode(),
        "dev.sigstore.cosign/chain": "",
        "dev.sigstore.cosign/bundle": msgspec.json.encode(logged).decode(),
    }


def rekord(content: bytes) -> Spec:
    value = digest_of(content).removeprefix("sha256:")

    def spec(signature: str, pem: str) -> tuple[str, str, Any]:
        signed = {"content": signature, "publicKey": {"content": pem}}
        data = {"hash": {"algorithm": "sha256", "value": value}}
        return "hashedrekord", "0.0.1", {"data": data, "signature": signed}

    return spec


def test_a_signature_by_an_identity_is_vouched_for_by_the_logs_promise(
    registry: WatchedRegistry, checks: BundleVerifier
) -> None:
    payload = make_payload()
    annotations = keyless(payload, rekord(payload))
    lay(registry, "sig", (SIMPLE, payload, annotations))
    (found,) = load_dossier(registry, SUBJECT, checks).attestations
    assert (found.signer, found.signed_at) == (ALICE, AT)
    del annotations["dev.sigstore.cosign/bundle"]
    lay(registry, "sig", (SIMPLE, payload, annotations))
    ((_, reason, predicate_type),) = reasons(registry, checks)
    assert "must be in a transparency log" in reason
    assert predicate_type == RELEASE


def test_a_time_stamp_beside_the_log_must_hold(registry: WatchedRegistry, checks: BundleVerifier) -> None:
    payload = make_payload()
    annotations = keyless(payload, rekord(payload))
    signature = base64.b64decode(annotations["dev.cosignproject.cosign/signature"])
    stamped = "dev.sigstore.cosign/rfc3161timestamp"
    good, bad = (INSTANCE.tsa.stamp(what, AT) for what in (signature, b"other"))
    for response, count in ((good, 1), (bad, 0)):
        annotations[stamped] = msgspec.json.encode({"SignedRFC3161Timestamp": b64(response)}).decode()
        lay(registry, "sig", (SIMPLE, payload, annotations))
        assert len(load_dossier(registry, SUBJECT, checks).attestations) == count


def test_several_people_sign_the_same_payload(
    registry: WatchedRegistry, checks: BundleVerifier, file_key: FileKey
) -> None:
    payload = make_payload()
    by_key = {"dev.cosignproject.cosign/signature": b64(file_key.sign(payload))}
    by_name = keyless(payload, rekord(payload))
    lay(registry, "sig", (SIMPLE, payload, by_key), (SIMPLE, payload, by_name))
    assert len(load_dossier(registry, SUBJECT, checks).attestations) == 2


def test_an_attestation_by_a_key_and_by_an_identity(
    registry: WatchedRegistry, checks: BundleVerifier, file_key: FileKey
) -> None:
    message = pae(PAYLOAD_TYPE, STATEMENT.payload)
    envelope = msgspec.json.encode(wire_of(Envelope(STATEMENT.payload, PAYLOAD_TYPE, file_key.sign(message))))
    digest = {"algorithm": "sha256", "value": digest_of(STATEMENT.payload).removeprefix("sha256:")}

    def intoto(_signature: str, pem: str) -> tuple[str, str, Any]:
        return "intoto", "0.0.1", {"content": {"hash": digest, "payloadHash": digest}, "publicKey": pem}

    annotations = keyless(message, intoto)
    signature = base64.b64decode(annotations.pop("dev.cosignproject.cosign/signature"))
    signed = msgspec.json.encode(wire_of(Envelope(STATEMENT.payload, PAYLOAD_TYPE, signature)))
    about = {"predicateType": SBOM}
    lay(registry, "att", (DSSE, envelope, about), (DSSE, signed, about | annotations))
    found = load_dossier(registry, SUBJECT, checks)
    assert found.unverified == ()
    assert {one.signer for one in found.attestations} == {ALICE, KeyIdentity(digest_of(file_key.public_key_der))}
    assert {one.statement for one in found.attestations} == {STATEMENT}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": digest_of(b"other")}, "about another artifact"),
        ({"digest": "sha256:short"}, "malformed"),
        ({"kind": "another kind"}, "malformed"),
    ],
)
def test_a_signature_over_something_else_says_nothing_of_this_image(
    registry: WatchedRegistry, checks: BundleVerifier, file_key: FileKey, changes: dict[str, str], message: str
) -> None:
    payload = make_payload(**changes)
    signed = {"dev.cosignproject.cosign/signature": b64(file_key.sign(payload))}
    lay(registry, "sig", (SIMPLE, payload, signed))
    ((where, reason, predicate_type),) = reasons(registry, checks)
    assert where == f"{fallback_tag(SUBJECT.digest)}.sig"
    assert message in reason
    assert predicate_type == RELEASE


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"dev.cosignproject.cosign/signature": "!"},
        {"dev.cosignproject.cosign/signature": "c2ln"},
        {"dev.cosignproject.cosign/signature": "c2ln", "dev.sigstore.cosign/certificate": "no PEM"},
        {"dev.cosignproject.cosign/signature": "c2ln", "dev.sigstore.cosign/bundle": "{}"},
        {"dev.cosignproject.cosign/signature": "c2ln", "dev.sigstore.cosign/rfc3161timestamp": "{}"},
    ],
)
def test_annotations_that_are_malformed_prove_nothing(
    registry: WatchedRegistry, checks: BundleVerifier, annotations: dict[str, str]
) -> None:
    lay(registry, "sig", (SIMPLE, make_payload(), annotations))
    assert len(reasons(registry, checks)) == 1
    lay(registry, "att", (DSSE, b"no envelope", annotations), ("text/plain", b"", {}))
    assert len(reasons(registry, checks)) == 2


def test_a_tag_that_holds_no_manifest_or_too_much_is_said(
    registry: WatchedRegistry, checks: BundleVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = f"{fallback_tag(SUBJECT.digest)}.sig"
    for content in (b"[]", b'{"layers":[{"digest":"sha256:0","size":0,"mediaType":""}]}'):
        registry.plant(tag, content)
        ((where, _, _),) = reasons(registry, checks)
        assert where == tag
    registry.planted.clear()
    monkeypatch.setattr(dossiers, "_MAX_PIECES", 1)
    lay(registry, "sig", *[(SIMPLE, make_payload(), {})] * 2)
    ((_, reason, _),) = reasons(registry, checks)
    assert "2 layers" in reason
