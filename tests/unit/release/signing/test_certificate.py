"""Certificates that an authority of ours issued, and that still must not do."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.errors import VerificationError
from pratique.release.signing import scripted
from pratique.release.signing.certificate import parse_certificate, verify_certificate
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.trust import parse_trust_root
from pratique.release.values import CertificateIdentity

pytestmark = pytest.mark.unit

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
INSTANCE = ScriptedInstance()
ROOT = parse_trust_root(INSTANCE.trust_root_json())
ALICE = CertificateIdentity("https://login.example", "alice@example.com")
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
OTHER_NAME = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def issue(
    *extensions: x509.ExtensionType, drop: tuple[x509.ObjectIdentifier, ...] = (), promised: bool = True
) -> bytes:
    """Issue Alice's certificate with some extensions put in the place of the usual ones."""
    usual = INSTANCE.issue(KEY, ALICE, at=AT)
    replaced = {one.oid for one in extensions} | {*drop, SCTS}
    builder = (
        x509.CertificateBuilder()
        .subject_name(usual.subject)
        .issuer_name(usual.issuer)
        .public_key(KEY)
        .serial_number(7)
        .not_valid_before(AT)
        .not_valid_after(AT + dt.timedelta(minutes=10))
    )
    for kept in usual.extensions:
        if kept.oid not in replaced:
            builder = builder.add_extension(kept.value, kept.critical)
    for one in extensions:
        builder = builder.add_extension(one, critical=isinstance(one, x509.SubjectAlternativeName))
    certificate = builder.sign(INSTANCE.ca_key, hashes.SHA256())
    if promised:
        promise = INSTANCE._promise(certificate, AT)
        builder = builder.add_extension(x509.UnrecognizedExtension(SCTS, promise), critical=False)
        certificate = builder.sign(INSTANCE.ca_key, hashes.SHA256())
    return certificate.public_bytes(Encoding.DER)


def verify(der: bytes, at: dt.datetime = AT) -> CertificateIdentity:
    return verify_certificate(parse_certificate(der), [at], ROOT)


def san(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def utf8(text: bytes) -> bytes:
    return scripted._tlv(0x0C, text)


def test_the_signer_is_whom_the_certificate_names() -> None:
    assert verify(issue()) == ALICE


def test_both_ends_of_the_certificates_validity_belong_to_it() -> None:
    end = AT + dt.timedelta(minutes=10)
    assert verify(issue(), end) == ALICE
    for outside in (AT - dt.timedelta(seconds=1), end + dt.timedelta(seconds=1)):
        with pytest.raises(VerificationError, match="no trusted authority issued"):
            verify(issue(), outside)


def test_a_name_of_fulcios_own_kind_is_read() -> None:
    named = issue(san(x509.OtherName(OTHER_NAME, utf8(b"ci-robot!example.com"))))
    assert verify(named).subject == "ci-robot!example.com"


@pytest.mark.parametrize("size", [10, 0x7F, 0x80, 300])
def test_the_identity_provider_is_read_whatever_its_length(size: int) -> None:
    issuer = b"https://" + b"i" * (size - 8)
    newer = x509.UnrecognizedExtension(ISSUER_V2, utf8(issuer))
    assert verify(issue(newer, drop=(ISSUER,))).issuer == issuer.decode()


def test_the_older_extension_suffices_where_it_stands_alone() -> None:
    assert verify(issue(drop=(ISSUER_V2,))) == ALICE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: issue(x509.UnrecognizedExtension(ISSUER, b"https://other.example")), "one identity provider, got 2"),
        (lambda: issue(drop=(ISSUER, ISSUER_V2)), "one identity provider, got 0"),
        (lambda: issue(x509.UnrecognizedExtension(ISSUER_V2, b"text"), drop=(ISSUER,)), "no DER UTF8String"),
        (lambda: issue(x509.UnrecognizedExtension(ISSUER_V2, b"\x0c\x05ab"), drop=(ISSUER,)), "no DER UTF8String"),
        (lambda: issue(x509.UnrecognizedExtension(ISSUER_V2, b"\x0c"), drop=(ISSUER,)), "no DER UTF8String"),
        (lambda: issue(x509.UnrecognizedExtension(ISSUER_V2, utf8(b"\xff")), drop=(ISSUER,)), "what is no text"),
        (lambda: issue(san(x509.RFC822Name("a@b.c"), x509.RFC822Name("d@e.f"))), "names one signer, got 2"),
        (lambda: issue(san(x509.OtherName(ISSUER, utf8(b"x")))), "name of unknown type"),
        (lambda: issue(san(x509.OtherName(OTHER_NAME, utf8(b"\xff")))), "what is no text"),
        (lambda: issue(san(x509.DNSName("example.com"))), "name of unknown type DNSName"),
        (lambda: issue(promised=False), "one signed certificate timestamp"),
    ],
)
def test_a_certificate_that_does_not_name_one_signer_as_it_must_is_refused(
    make: Callable[[], bytes], message: str
) -> None:
    with pytest.raises(VerificationError, match=message):
        verify(make())


def usage(**changes: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**({name: name == "digital_signature" for name in names} | changes))


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"no certificate",
        lambda: INSTANCE.ca.public_bytes(Encoding.DER),
        lambda: issue(x509.BasicConstraints(ca=True, path_length=None)),
        lambda: issue(usage(key_cert_sign=True)),
        lambda: issue(usage(digital_signature=False, key_agreement=True)),
        lambda: issue(drop=(x509.KeyUsage.oid,)),
        lambda: issue(drop=(x509.ExtendedKeyUsage.oid,)),
        lambda: issue(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])),
    ],
)
def test_a_certificate_that_is_not_for_signing_code_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(VerificationError):
        parse_certificate(make())


def test_a_promise_of_a_log_about_another_certificate_does_not_hold() -> None:
    other = INSTANCE.issue(KEY, ALICE, at=AT).extensions.get_extension_for_oid(SCTS).value.public_bytes()
    usual = INSTANCE.issue(KEY, ALICE, at=AT)
    builder = (
        x509.CertificateBuilder()
        .subject_name(usual.subject)
        .issuer_name(usual.issuer)
        .public_key(KEY)
        .serial_number(8)
        .not_valid_before(AT)
        .not_valid_after(AT + dt.timedelta(minutes=10))
    )
    for kept in usual.extensions:
        value = x509.UnrecognizedExtension(SCTS, other) if kept.oid == SCTS else kept.value
        builder = builder.add_extension(value, kept.critical)
    with pytest.raises(VerificationError, match=r"promise \(SCT\) does not hold"):
        verify(builder.sign(INSTANCE.ca_key, hashes.SHA256()).public_bytes(Encoding.DER))


def test_an_authority_that_only_bears_the_same_name_issues_nothing() -> None:
    impostor = ScriptedInstance().issue(KEY, ALICE, at=AT)
    with pytest.raises(VerificationError, match="no trusted authority issued"):
        verify(impostor.public_bytes(Encoding.DER))


def test_without_a_time_no_certificate_is_verified() -> None:
    with pytest.raises(VerificationError, match="nothing proves one"):
        verify_certificate(parse_certificate(issue()), [], ROOT)


P256 = bytes.fromhex("2a8648ce3d030107")
EC_KEY = bytes.fromhex("06072a8648ce3d0201")


@pytest.mark.parametrize(
    ("found", "other"),
    [
        (bytes.fromhex("a003020102"), bytes.fromhex("a003020112")),  # a version that no certificate has
        (P256, P256[:-1] + b"\x0f"),  # a curve that nobody knows
        (EC_KEY, EC_KEY[:-1] + b"\x7f"),  # a kind of key that nobody knows
    ],
)
def test_a_certificate_that_is_no_longer_one_is_refused_and_nothing_else_happens(found: bytes, other: bytes) -> None:
    der = issue()
    assert found in der
    with pytest.raises(VerificationError):
        parse_certificate(der.replace(found, other))


@given(st.data())
@settings(max_examples=50)
def test_whatever_becomes_of_a_certificate_it_is_read_or_refused(data: st.DataObject) -> None:
    der = bytearray(DER)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(VerificationError):
        verify(bytes(der))


DER = issue()
