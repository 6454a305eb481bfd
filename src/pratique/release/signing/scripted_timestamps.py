"""RFC 3161 responses made by hand: the time stamp authority of a scripted instance. For tests and drills.

Sources: RFC 3161, 2.4.2 (TimeStampResp, TSTInfo), RFC 5652 (SignedData), RFC 5816 (ESSCertIDv2).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

__all__ = ["ScriptedTimestampAuthority"]

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OCTETS: Final = 0x04
_CONTEXT_0: Final = 0xA0
_LONG_FORM: Final = 0x80
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
_SHA256: Final = "2.16.840.1.101.3.4.2.1"
_ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
_POLICY: Final = "1.3.6.1.4.1.57264.2"


@dataclass(frozen=True, slots=True)
class ScriptedTimestampAuthority:
    """Stamps whatever it is given, with whatever time it is told."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]
    """Its own certificate first."""

    def stamp(self, message: bytes, at: dt.datetime, *, nonce: int | None = None) -> bytes:
        """Return a response over a message, in DER."""
        return self.stamp_sha256(hashlib.sha256(message).digest(), at, nonce=nonce)

    def stamp_sha256(self, sha256: bytes, at: dt.datetime, *, nonce: int | None = None) -> bytes:
        """Return a response over something with this digest."""
        info = _der(
            _SEQUENCE,
            _integer(1),
            _oid(_POLICY),
            _der(_SEQUENCE, _algorithm(_SHA256), _der(_OCTETS, sha256)),
            _integer(1),
            _der(0x18, at.astimezone(dt.UTC).strftime("%Y%m%d%H%M%SZ").encode()),
            _integer(nonce) if nonce is not None else b"",
        )
        content = _der(_SEQUENCE, _oid(_TST_INFO), _der(_CONTEXT_0, _der(_OCTETS, info)))
        signed = _der(
            _SEQUENCE, _integer(3), _der(_SET, _algorithm(_SHA256)), content, _der(_SET, self._signer_info(info))
        )
        token = _der(_SEQUENCE, _oid(_SIGNED_DATA), _der(_CONTEXT_0, signed))
        return _der(_SEQUENCE, _der(_SEQUENCE, _integer(0)), token)

    def _signer_info(self, info: bytes) -> bytes:
        certificate = self.chain[0]
        fingerprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        attributes = b"".join(
            sorted(
                (
                    _attribute(_CONTENT_TYPE, _oid(_TST_INFO)),
                    _attribute(_MESSAGE_DIGEST, _der(_OCTETS, hashlib.sha256(info).digest())),
                    _attribute(
                        _SIGNING_CERTIFICATE_V2,
                        _der(_SEQUENCE, _der(_SEQUENCE, _der(_SEQUENCE, _der(_OCTETS, fingerprint)))),
                    ),
                )
            )
        )
        return _der(
            _SEQUENCE,
            _integer(1),
            _der(_SEQUENCE, certificate.issuer.public_bytes(), _integer(certificate.serial_number)),
            _algorithm(_SHA256),
            _der(_CONTEXT_0, attributes),
            _algorithm(_ECDSA_SHA256),
            _der(_OCTETS, self.key.sign(_der(_SET, attributes), ec.ECDSA(hashes.SHA256()))),
        )


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < _LONG_FORM:
        return bytes((tag, len(body))) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(size))) + size + body


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(dotted: str) -> bytes:
    first, second, *others = (int(one) for one in dotted.split("."))
    groups = []
    for number in (first * 40 + second, *others):
        group = [number & 0x7F]
        while number := number >> 7:
            group.insert(0, _LONG_FORM | number & 0x7F)
        groups.append(bytes(group))
    return _der(0x06, *groups)


def _algorithm(dotted: str) -> bytes:
    return _der(_SEQUENCE, _oid(dotted))


def _attribute(dotted: str, value: bytes) -> bytes:
    return _der(_SEQUENCE, _oid(dotted), _der(_SET, value))
