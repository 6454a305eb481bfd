"""A Sigstore instance inside the process: certificate authority, both kinds of logs, time stamps. For tests and drills.

It issues to whoever is named and says whatever time it is told: what it signs is as true as its caller. Its trust root
is a file like any other, so nothing that verifies knows the difference.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pratique.release.signing.bundle import BUNDLE_V03
from pratique.release.signing.dsse import pae
from pratique.release.signing.scripted_timestamps import ScriptedTimestampAuthority
from pratique.release.statements import PAYLOAD_TYPE
from pratique.release.values import CertificateIdentity

__all__ = ["ScriptedInstance", "ScriptedLog", "b64"]

_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_SCT_LIST: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER_V2: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_TEN_MINUTES: Final = dt.timedelta(minutes=10)
_TEN_YEARS: Final = dt.timedelta(days=3653)
_BEGIN: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def b64(content: bytes) -> str:
    """Return bytes as JSON has them."""
    return base64.b64encode(content).decode()


def _spki(key: _PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _sign(key: _PrivateKey, message: bytes) -> bytes:
    return (
        key.sign(message)
        if isinstance(key, ed25519.Ed25519PrivateKey)
        else key.sign(message, ec.ECDSA(hashes.SHA256()))
    )


@dataclass
class ScriptedLog:
    """A transparency log (RFC 6962) that keeps its leaves."""

    name: str
    version: Literal[1, 2]
    key: _PrivateKey
    leaves: list[bytes] = field(default_factory=list)

    @property
    def id(self) -> bytes:
        """The log's id: of its key in Rekor v1, of its name and key in v2 (C2SP signed-note)."""
        if self.version == 1:
            return hashlib.sha256(_spki(self.key)).digest()
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(self.name.encode() + b"\n\x01" + raw).digest()

    def add(self, body: bytes, *, kind: str, version: str, at: dt.datetime) -> dict[str, Any]:
        """Add an entry; return it as a bundle has it."""
        self.leaves.append(hashlib.sha256(b"\0" + body).digest())
        return self.entry(len(self.leaves) - 1, body, kind=kind, version=version, at=at)

    def entry(self, index: int, body: bytes, *, kind: str, version: str, at: dt.datetime) -> dict[str, Any]:
        """Return an entry that was added, with a proof in the tree as it is now."""
        size, root = len(self.leaves), _root(self.leaves)
        note = f"{self.name}\n{size}\n{b64(root)}\n"
        signature = b64(self.id[:4] + _sign(self.key, note.encode()))
        entry: dict[str, Any] = {
            "logIndex": str(index),
            "logId": {"keyId": b64(self.id)},
            "kindVersion": {"kind": kind, "version": version},
            "inclusionProof": {
                "logIndex": str(index),
                "rootHash": b64(root),
                "treeSize": str(size),
                "hashes": [b64(one) for one in _path(index, self.leaves)],
                "checkpoint": {"envelope": f"{note}\n\u2014 {self.name} {signature}\n"},
            },
            "canonicalizedBody": b64(body),
        }
        if self.version == 1:
            seconds = int(at.timestamp())
            promised = {"body": b64(body), "integratedTime": seconds, "logID": self.id.hex(), "logIndex": index}
            entry["integratedTime"] = str(seconds)
            entry["inclusionPromise"] = {"signedEntryTimestamp": b64(_sign(self.key, msgspec.json.encode(promised)))}
        return entry


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + _root(leaves[:split]) + _root(leaves[split:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*_path(index, leaves[:split]), _root(leaves[split:])]
    return [*_path(index - split, leaves[split:]), _root(leaves[:split])]


class ScriptedInstance:
    """Everything that a keyless signature needs. All keys are new for each instance."""

    def __init__(self, *, rekor: Literal[1, 2] = 1) -> None:
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        root_key = ec.generate_private_key(ec.SECP384R1())
        root = _authority("sigstore root", root_key, issuer=None, issuer_key=root_key)
        self.ca = _authority("sigstore intermediate", self.ca_key, issuer=root, issuer_key=root_key)
        self.ca_chain = (self.ca, root)
        self.ct_key = ec.generate_private_key(ec.SECP256R1())
        log_key = ec.generate_private_key(ec.SECP256R1()) if rekor == 1 else ed25519.Ed25519PrivateKey.generate()
        self.log = ScriptedLog("rekor.example", rekor, log_key)
        tsa_key = ec.generate_private_key(ec.SECP256R1())
        tsa = _authority("timestamps", tsa_key, issuer=self.ca, issuer_key=self.ca_key, is_timestamping=True)
        self.tsa = ScriptedTimestampAuthority(tsa_key, (tsa, *self.ca_chain))

    def trusted_root(self) -> dict[str, Any]:
        """Return what is believed of this instance, as `trusted_root.json` has it."""
        valid = {"start": _BEGIN.isoformat().replace("+00:00", "Z")}

        def log(key: _PrivateKey, key_id: bytes, url: str) -> dict[str, Any]:
            kind = "PKIX_ED25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "PKIX_ECDSA_P256_SHA_256"
            public = {"rawBytes": b64(_spki(key)), "keyDetails": kind, "validFor": valid}
            return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": {"keyId": b64(key_id)}}

        def authority(chain: tuple[x509.Certificate, ...], url: str) -> dict[str, Any]:
            certificates = [{"rawBytes": b64(one.public_bytes(Encoding.DER))} for one in chain]
            subject = {"organization": "example", "commonName": "example"}
            return {"subject": subject, "uri": url, "certChain": {"certificates": certificates}, "validFor": valid}

        ct_id = hashlib.sha256(_spki(self.ct_key)).digest()
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log.key, self.log.id, "https://rekor.example")],
            "ctlogs": [log(self.ct_key, ct_id, "https://ct.example")],
            "certificateAuthorities": [authority(self.ca_chain, "https://fulcio.example")],
            "timestampAuthorities": [authority(self.tsa.chain, "https://tsa.example")],
        }

    def trust_root_json(self) -> bytes:
        """Return the trust root as a file's content."""
        return msgspec.json.encode(self.trusted_root())

    def issue(
        self, key: ec.EllipticCurvePublicKey, identity: CertificateIdentity, *, at: dt.datetime
    ) -> x509.Certificate:
        """Issue a certificate for ten minutes, promised to the certificate log."""
        name: x509.GeneralName = (
            x509.RFC822Name(identity.subject)
            if "@" in identity.subject and "://" not in identity.subject
            else x509.UniformResourceIdentifier(identity.subject)
        )
        issuer = identity.issuer.encode()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.ca.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(at)
            .not_valid_after(at + _TEN_MINUTES)
            .add_extension(_key_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(_key_identifier(self.ca_key), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER, issuer), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V2, _tlv(0x0C, issuer)), critical=False)
        )
        promise = self._promise(builder.sign(self.ca_key, hashes.SHA256()), at)
        return builder.add_extension(x509.UnrecognizedExtension(_SCT_LIST, promise), critical=False).sign(
            self.ca_key, hashes.SHA256()
        )

    def _promise(self, precertificate: x509.Certificate, at: dt.datetime) -> bytes:
        """Return a list of one signed certificate timestamp (RFC 6962, 3.2 and 3.3)."""
        milliseconds = (at - _EPOCH) // dt.timedelta(milliseconds=1)
        body = precertificate.tbs_certificate_bytes
        issuer = hashlib.sha256(_spki(self.ca_key)).digest()
        signed = struct.pack("!BBQH32s", 0, 0, milliseconds, 1, issuer) + len(body).to_bytes(3, "big") + body + b"\0\0"
        signature = _sign(self.ct_key, signed)
        log_id = hashlib.sha256(_spki(self.ct_key)).digest()
        one = struct.pack("!B32sQHBBH", 0, log_id, milliseconds, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!H", len(one)) + one
        return _tlv(0x04, struct.pack("!H", len(listed)) + listed)

    def sign(self, payload: bytes, identity: CertificateIdentity, *, at: dt.datetime) -> dict[str, Any]:
        """Return a bundle over a statement, signed by somebody at some time."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.issue(key.public_key(), identity, at=at)
        message = pae(PAYLOAD_TYPE, payload)
        signature = _sign(key, message)
        envelope = {"payload": b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": b64(signature)}]}
        material: dict[str, Any] = {
            "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
            "tlogEntries": [self.log_envelope(payload, signature, certificate, at=at)],
        }
        if self.log.version != 1:
            stamp = self.tsa.stamp(signature, at)
            material["timestampVerificationData"] = {"rfc3161Timestamps": [{"signedTimestamp": b64(stamp)}]}
        return {"mediaType": BUNDLE_V03, "verificationMaterial": material, "dsseEnvelope": envelope}

    def log_envelope(
        self, payload: bytes, signature: bytes, certificate: x509.Certificate, *, at: dt.datetime
    ) -> dict[str, Any]:
        """Log a signed envelope; return the entry."""
        if self.log.version == 1:
            verifier = b64(certificate.public_bytes(Encoding.PEM))
            digest = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
            spec: dict[str, Any] = {
                "envelopeHash": digest,  # of JSON that nobody else can write again: not looked at
                "payloadHash": digest,
                "signatures": [{"signature": b64(signature), "verifier": verifier}],
            }
            return self._log("dsse", "0.0.1", spec, at=at)
        sha256 = hashlib.sha256(pae(PAYLOAD_TYPE, payload)).digest()
        return self.log_digest(sha256, signature, certificate.public_bytes(Encoding.DER), at=at)

    def log_digest(self, sha256: bytes, signature: bytes, certificate: bytes, *, at: dt.datetime) -> dict[str, Any]:
        """Log a signature over a digest, as Rekor v2 does; return the entry."""
        verifier = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": b64(certificate)}}
        rekord = {
            "data": {"algorithm": "SHA2_256", "digest": b64(sha256)},
            "signature": {"content": b64(signature), "verifier": verifier},
        }
        return self._log("hashedrekord", "0.0.2", {"hashedRekordV002": rekord}, at=at)

    def _log(self, kind: str, version: str, spec: dict[str, Any], *, at: dt.datetime) -> dict[str, Any]:
        body = msgspec.json.encode({"apiVersion": version, "kind": kind, "spec": spec}, order="sorted")
        return self.log.add(body, kind=kind, version=version, at=at)


def _tlv(tag: int, content: bytes) -> bytes:
    size = bytes((len(content),)) if len(content) < 0x80 else b"\x82" + len(content).to_bytes(2, "big")  # noqa: PLR2004
    return bytes((tag,)) + size + content


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=not signs,
        encipher_only=False,
        decipher_only=False,
    )


def _key_identifier(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _authority(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    is_timestamping: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_BEGIN + _TEN_YEARS)
        .add_extension(x509.BasicConstraints(ca=not is_timestamping, path_length=None), critical=True)
        .add_extension(_key_usage(signs=is_timestamping), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_identifier(issuer_key), critical=False)
    )
    if is_timestamping:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())
