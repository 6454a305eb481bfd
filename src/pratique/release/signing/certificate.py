"""Fulcio's certificates: that one was issued by an authority that we believe, when, to whom.

Sources: RFC 5280 (paths), RFC 6962, 3.2 (signed certificate timestamps), sigstore/fulcio `docs/oid-info.md` (who
vouched for the signer) and `docs/certificate-specification.md`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store
from cryptography.x509.verification import VerificationError as PathError

from pratique.release.errors import VerificationError
from pratique.release.signing.publickey import PublicKey, public_key_of
from pratique.release.signing.trust import Authority, TrustRoot
from pratique.release.values import CertificateIdentity

__all__ = ["SigningCertificate", "parse_certificate", "verify_certificate"]

_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_OTHER_NAME: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
_UTF8_STRING: Final = 0x0C
_LONG_FORM: Final = 0x80
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_UNREADABLE: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""All that `cryptography` raises for certificates that it cannot read."""

T = TypeVar("T", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """A certificate that was read; nothing about it has been verified."""

    certificate: x509.Certificate
    der: bytes
    key: PublicKey


def parse_certificate(der: bytes) -> SigningCertificate:
    """Read a certificate that may sign: no authority's, and for signing code.

    Raises:
        VerificationError: it is none.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = certificate.extensions
        key = certificate.public_key()
    except _UNREADABLE as error:
        raise VerificationError(f"expected an X.509 certificate: {error}") from error
    constraints = _extension(extensions, x509.BasicConstraints)
    usage = _extension(extensions, x509.KeyUsage)
    purposes = _extension(extensions, x509.ExtendedKeyUsage)
    if (constraints is not None and constraints.ca) or usage is None or usage.key_cert_sign:
        raise VerificationError("expected a signer's certificate, got an authority's or one without key usage")
    if not usage.digital_signature or purposes is None or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise VerificationError("the certificate is not for signing code")
    return SigningCertificate(certificate, der, public_key_of(key))


def _extension(extensions: x509.Extensions, kind: type[T]) -> T | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def verify_certificate(
    signing: SigningCertificate, times: Sequence[dt.datetime], root: TrustRoot
) -> CertificateIdentity:
    """Return who signed under a certificate at these times.

    Raises:
        VerificationError: no authority issued it, it was not valid at one of the times, no certificate log that is
            believed knows it, or it does not name one signer.
    """
    if not times:
        raise VerificationError("a certificate is verified for the time of signing, and nothing proves one")
    issuers = [_issuer_at(signing.certificate, at, root.certificate_authorities) for at in times]
    _verify_certificate_log(signing.certificate, issuers[0], root)
    return _identity_of(signing.certificate)


def _issuer_at(certificate: x509.Certificate, at: dt.datetime, authorities: Sequence[Authority]) -> x509.Certificate:
    """Return the certificate that issued this one, on a path that was valid at that time."""
    reasons = []
    for authority in authorities:
        if at not in authority.period:
            reasons.append("not trusted then")
            continue
        *between, anchor = authority.chain
        # Client authentication is what such verifiers ask for; these certificates sign code, which was looked at.
        any_purpose = (x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
        verifier = (
            PolicyBuilder()
            .store(Store([anchor]))
            .time(at)
            .extension_policies(
                ca_policy=ExtensionPolicy.webpki_defaults_ca().may_be_present(*any_purpose),
                ee_policy=ExtensionPolicy.webpki_defaults_ee().may_be_present(*any_purpose),
            )
            .build_client_verifier()
        )
        try:
            return verifier.verify(certificate, between).chain[1]
        except (PathError, x509.UnsupportedGeneralNameType) as error:
            reasons.append(str(error))
    raise VerificationError(
        f"no trusted authority issued the certificate, valid at {at.isoformat()}:"
        f" {'; '.join(reasons) or 'there is none'}"
    )


def _verify_certificate_log(certificate: x509.Certificate, issuer: x509.Certificate, root: TrustRoot) -> None:
    """Make sure that a certificate log promised to list the certificate: its one signed certificate timestamp holds."""
    promises = _extension(certificate.extensions, x509.PrecertificateSignedCertificateTimestamps)
    if promises is None or len(promises) != 1:
        raise VerificationError("expected a certificate with one signed certificate timestamp")
    (promise,) = promises
    log = root.certificate_logs.get(promise.log_id)
    at = promise.timestamp.replace(tzinfo=dt.UTC)
    if log is None or at not in log.period:
        raise VerificationError(f"no certificate log that is trusted for {at.isoformat()} has promised to list it")
    issuer_key = hashlib.sha256(public_key_of(issuer.public_key()).der).digest()
    body = certificate.tbs_precertificate_bytes
    extensions = promise.extension_bytes
    milliseconds = (at - _EPOCH) // dt.timedelta(milliseconds=1)
    # digitally-signed of RFC 6962, 3.2: version 1, certificate_timestamp, time, precert_entry.
    signed = (
        struct.pack("!BBQH32s", 0, 0, milliseconds, 1, issuer_key)
        + len(body).to_bytes(3, "big")
        + body
        + struct.pack("!H", len(extensions))
        + extensions
    )
    try:
        log.key.verify(promise.signature, signed)
    except VerificationError as error:
        raise VerificationError("the certificate log's promise (SCT) does not hold") from error


def _identity_of(certificate: x509.Certificate) -> CertificateIdentity:
    older, newer = _unknown_extension(certificate, _ISSUER), _unknown_extension(certificate, _ISSUER_V2)
    issuers = {_text(older)} if older is not None else set()
    if newer is not None:
        issuers.add(_text(_utf8_string(newer)))
    if len(issuers) != 1:
        raise VerificationError(f"expected a certificate that names one identity provider, got {len(issuers)}")
    names = _names(certificate)
    if len(names) != 1:
        raise VerificationError(f"expected a certificate that names one signer, got {len(names)}")
    (issuer,) = issuers
    return CertificateIdentity(issuer, names[0])


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise VerificationError(f"the certificate names somebody by what is no text: {error}") from error


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the signer's names: mail address, URI, or what Fulcio writes as another name."""
    alternatives = _extension(certificate.extensions, x509.SubjectAlternativeName) or ()
    names = []
    for name in alternatives:
        if isinstance(name, x509.OtherName):
            if name.type_id != _OTHER_NAME:
                raise VerificationError(f"the signer has a name of unknown type {name.type_id.dotted_string}")
            names.append(_text(_utf8_string(name.value)))
        elif isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
            names.append(name.value)
        else:
            raise VerificationError(f"the signer has a name of unknown type {type(name).__name__}")
    return names


def _unknown_extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _utf8_string(der: bytes) -> bytes:
    """Return the content of a DER UTF8String (X.690, 8.1.3) that fills its bytes."""
    if len(der) >= 2 and der[0] == _UTF8_STRING:  # noqa: PLR2004 - a tag and a length
        size_bytes = der[1] - _LONG_FORM if der[1] >= _LONG_FORM else 0
        size = int.from_bytes(der[2 : 2 + size_bytes], "big") if size_bytes else der[1]
        if len(der) == 2 + size_bytes + size:
            return der[2 + size_bytes :]
    raise VerificationError("an extension of the certificate is no DER UTF8String")
