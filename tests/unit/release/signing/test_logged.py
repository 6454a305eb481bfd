from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec
import pytest

from pratique.release.errors import VerificationError
from pratique.release.signing.bundle import LogEntry
from pratique.release.signing.logged import Signed, verify_logged

pytestmark = pytest.mark.unit

DER = b"certificate"
PEM = b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(DER) + b"\n-----END CERTIFICATE-----\n"
SIG = b"signature"
PAE = hashlib.sha256(b"pae").digest()
PAYLOAD = hashlib.sha256(b"payload").digest()
SIGNED = Signed(DER, SIG, PAE, PAYLOAD)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def of(digest: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": digest.hex()}


def specs(
    *, signer: bytes = PEM, der: bytes = DER, sig: bytes = SIG, pae: bytes = PAE, payload: bytes = PAYLOAD
) -> Any:
    content = {"payloadHash": of(payload), "hash": of(b"0" * 32)}
    envelope = {"signatures": [{"publicKey": b64(signer), "sig": b64(b64(sig).encode())}]}
    dsse = {"payloadHash": of(payload), "signatures": [{"signature": b64(sig), "verifier": b64(signer)}]}
    rekord1 = {"data": {"hash": of(pae)}, "signature": {"content": b64(sig), "publicKey": {"content": b64(signer)}}}
    digest = {"algorithm": "SHA2_256", "digest": b64(pae)}
    by_certificate = {"content": b64(sig), "verifier": {"x509Certificate": {"rawBytes": b64(der)}}}
    by_key = {"content": b64(sig), "verifier": {"publicKey": {"rawBytes": b64(der)}}}
    return {
        "rekord1": ("hashedrekord", "0.0.1", rekord1),
        "rekord2": ("hashedrekord", "0.0.2", {"hashedRekordV002": {"data": digest, "signature": by_certificate}}),
        "rekord2-key": ("hashedrekord", "0.0.2", {"hashedRekordV002": {"data": digest, "signature": by_key}}),
        "dsse": ("dsse", "0.0.1", dsse),
        "intoto1": ("intoto", "0.0.1", {"content": content, "publicKey": b64(signer)}),
        "intoto2": ("intoto", "0.0.2", {"content": {**content, "envelope": envelope}}),
    }


KINDS = tuple(specs())


def entry(kind: str, version: str, spec: object, /, **body: Any) -> LogEntry:
    whole = {"kind": kind, "apiVersion": version, "spec": spec} | body
    return LogEntry(b"log", 0, kind, version, msgspec.json.encode(whole), None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_about_what_was_signed_passes(kind: str) -> None:
    verify_logged(entry(*specs()[kind]), SIGNED)


CHANGES = [(kind, what) for kind in KINDS for what in ("signer", "sig", "digest") if (kind, what) != ("intoto1", "sig")]
"""Entries of intoto 0.0.1 do not say the signature."""


@pytest.mark.parametrize(("kind", "what"), CHANGES)
def test_an_entry_about_something_else_is_refused(kind: str, what: str) -> None:
    other = hashlib.sha256(b"other").digest()
    changed = {
        "signer": {"signer": PEM.replace(b64(DER).encode(), b64(b"stranger").encode()), "der": b"stranger"},
        "sig": {"sig": b"other"},
        "digest": {"pae": other, "payload": other},
    }[what]
    with pytest.raises(VerificationError, match="the log entry"):
        verify_logged(entry(*specs(**changed)[kind]), SIGNED)


@pytest.mark.parametrize("kind", ["dsse", "intoto1", "intoto2"])
def test_an_entry_about_an_envelope_is_none_about_an_artifact(kind: str) -> None:
    with pytest.raises(VerificationError, match="the digests differ"):
        verify_logged(entry(*specs()[kind]), Signed(DER, SIG, PAYLOAD, None))


@pytest.mark.parametrize(
    "one",
    [
        entry("rekord", "0.0.1", {}),
        entry("dsse", "0.0.9", specs()["dsse"][2]),
        entry(*specs()["dsse"], kind="intoto"),
        entry(*specs()["dsse"], apiVersion="0.0.2"),
        entry("dsse", "0.0.1", {}),
        entry("dsse", "0.0.1", {**specs()["dsse"][2], "signatures": []}),
        entry("dsse", "0.0.1", {**specs()["dsse"][2], "signatures": specs()["dsse"][2]["signatures"] * 2}),
        entry("dsse", "0.0.1", {**specs()["dsse"][2], "payloadHash": {"algorithm": "sha1", "value": "00"}}),
        entry(*specs(signer=b"no pem")["dsse"]),
        entry(*specs(signer=b"-----BEGIN A-----\n!\n-----END A-----\n")["dsse"]),
        entry(*specs(signer=PEM + PEM)["dsse"]),
        entry("hashedrekord", "0.0.2", {"hashedRekordV002": {**specs()["rekord2"][2], "signature": {}}}),
        LogEntry(b"log", 0, "dsse", "0.0.1", b"{", None, None, None),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused(one: LogEntry) -> None:
    with pytest.raises(VerificationError):
        verify_logged(one, SIGNED)


def test_an_entry_of_rekor_v2_that_names_no_signer_is_refused() -> None:
    kind, version, spec = specs()["rekord2"]
    spec["hashedRekordV002"]["signature"]["verifier"] = {}
    with pytest.raises(VerificationError, match="names another key"):
        verify_logged(entry(kind, version, spec), SIGNED)
