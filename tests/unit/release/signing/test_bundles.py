from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.core.errors import CallerError
from pratique.release.errors import VerificationError
from pratique.release.signing import bundle as bundles
from pratique.release.signing.bundle import BUNDLE_V03, MessageSignature, load_bundle, parse_bundle, write_keyed_bundle
from pratique.release.signing.dsse import Envelope

pytestmark = pytest.mark.unit

Change = Callable[[dict[str, Any]], object]
OLDER = "application/vnd.dev.sigstore.bundle+json;version="


def keyed(**changes: Any) -> dict[str, Any]:
    envelope = {"payload": "aGk=", "payloadType": "text/plain", "signatures": [{"sig": "c2ln"}]}
    material = {"publicKey": {"hint": "aGludA=="}}
    return {"mediaType": BUNDLE_V03, "verificationMaterial": material, "dsseEnvelope": envelope} | changes


def read(wire: dict[str, Any]) -> bundles.Bundle:
    return parse_bundle(msgspec.json.encode(wire))


def test_a_keyed_bundle_is_written_the_same_way_every_time_and_read_back() -> None:
    envelope = Envelope(b"hi", "text/plain", b"sig")
    written = write_keyed_bundle(envelope, hint="aGludA==")
    assert written == write_keyed_bundle(envelope, hint="aGludA==")
    assert msgspec.json.decode(written) == keyed()
    parsed = parse_bundle(written)
    assert (parsed.content, parsed.hint, parsed.certificate, parsed.entries) == (envelope, "aGludA==", None, ())
    stamped = parse_bundle(write_keyed_bundle(envelope, hint="aGludA==", timestamps=(b"stamp",)))
    assert stamped.timestamps == (b"stamp",)


def test_a_bundle_over_an_artifact_keeps_the_digest_it_claims() -> None:
    wire = keyed(messageSignature={"signature": "c2ln", "messageDigest": {"algorithm": "SHA2_256", "digest": "aGk="}})
    del wire["dsseEnvelope"]
    assert read(wire).content == MessageSignature(b"sig", b"hi")
    del wire["messageSignature"]["messageDigest"]
    assert read(wire).content == MessageSignature(b"sig", None)


def test_a_certificate_stands_alone_or_leads_a_chain_in_older_bundles(signed: dict[str, Any]) -> None:
    leaf = read(signed).certificate
    assert leaf is not None
    material = signed["verificationMaterial"]
    material["x509CertificateChain"] = {"certificates": [material.pop("certificate"), {"rawBytes": "AAAA"}]}
    signed["mediaType"] = f"{OLDER}0.2"
    assert read(signed).certificate == leaf
    signed["mediaType"] = f"{OLDER}0.3"
    with pytest.raises(VerificationError, match=r"in a bundle of 0\.3, a chain"):
        read(signed)


def test_members_that_protobuf_writes_as_null_are_as_if_absent() -> None:
    wire = keyed(messageSignature=None)
    wire["verificationMaterial"] |= {"tlogEntries": None, "timestampVerificationData": {"rfc3161Timestamps": None}}
    assert read(wire) == read(keyed())


@pytest.mark.parametrize(
    "wire",
    [
        keyed(mediaType=f"{OLDER}0.4"),
        keyed(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json"),
        keyed(mediaType=None),
        keyed(more={}),
        keyed(verificationMaterial=None),
        keyed(verificationMaterial={}),
        keyed(verificationMaterial={"publicKey": {}, "certificate": {"rawBytes": "AAAA"}}),
        keyed(verificationMaterial={"publicKey": {"hint": "a", "rawBytes": "AAAA"}}),
        keyed(verificationMaterial={"x509CertificateChain": {"certificates": []}}, mediaType=f"{OLDER}0.2"),
        keyed(dsseEnvelope=None),
        keyed(messageSignature={"signature": "c2ln"}),
        keyed(dsseEnvelope=None, messageSignature={"signature": ""}),
        keyed(dsseEnvelope=None, messageSignature={"signature": "c2ln", "messageDigest": {"algorithm": "MD5"}}),
    ],
)
def test_a_malformed_bundle_is_refused(wire: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        read(wire)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'{"mediaType":"x"', b"\xff"])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(VerificationError, match="expected a Sigstore bundle"):
        parse_bundle(content)


def without(*path: str) -> Change:
    def change(entry: dict[str, Any]) -> None:
        for name in path[:-1]:
            entry = entry[name]
        entry.pop(path[-1], None)

    return change


@pytest.mark.parametrize(
    "change",
    [
        without("inclusionProof"),
        without("inclusionProof", "checkpoint"),
        without("inclusionProof", "rootHash"),
        without("canonicalizedBody"),
        without("logId"),
        lambda entry: entry.update(logIndex="-1"),
        lambda entry: entry["inclusionProof"].update(treeSize="-1"),
        lambda entry: entry["inclusionProof"].update(treeSize="many"),
        lambda entry: entry.update(surprise=1),
    ],
)
def test_a_log_entry_without_its_proof_is_refused(signed: dict[str, Any], change: Change) -> None:
    change(signed["verificationMaterial"]["tlogEntries"][0])
    with pytest.raises(VerificationError):
        read(signed)


def test_numbers_of_64_bits_may_be_text_or_numbers(signed: dict[str, Any]) -> None:
    before = read(signed)
    entry = signed["verificationMaterial"]["tlogEntries"][0]
    entry["logIndex"] = int(entry["logIndex"])
    assert read(signed) == before


def test_too_many_entries_or_time_stamps_and_too_many_bytes_are_refused_unread(
    signed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = signed["verificationMaterial"]["tlogEntries"]
    signed["verificationMaterial"]["tlogEntries"] = entries * 9
    with pytest.raises(VerificationError, match="got 9 and"):
        read(signed)
    wire = keyed()
    wire["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": ""}] * 9}
    with pytest.raises(VerificationError, match="got 0 and 9"):
        read(wire)
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 10)
    with pytest.raises(VerificationError, match="at most 10 are read"):
        read(keyed())


def test_a_bundles_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle").write_bytes(b"x" * 11)
    assert load_bundle(tmp_path / "bundle") == b"x" * 11
    monkeypatch.setattr(bundles, "MAX_BUNDLE_BYTES", 10)
    with pytest.raises(VerificationError, match="more than 10 bytes"):
        load_bundle(tmp_path / "bundle")
    with pytest.raises(CallerError, match="cannot be read"):
        load_bundle(tmp_path / "none")
