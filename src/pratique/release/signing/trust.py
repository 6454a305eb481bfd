"""The trust root: whose certificates, logs and time stamps are believed, and for which time.

Read from a Sigstore `trusted_root.json` (sigstore/protobuf-specs, `sigstore_trustroot.proto`). Every period is
inclusive at both ends and must have a beginning. A key of a kind that is not known here is left out, so nothing that
it signed is believed; all else that is wrong makes the whole root unreadable.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
from cryptography import x509

from pratique.core.errors import CallerError
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import VerificationError
from pratique.release.signing.publickey import PublicKey, parse_public_key

__all__ = ["Authority", "Period", "TrustRoot", "TrustedLog", "load_trust_root", "parse_trust_root"]

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_PRODUCTION: Final = "https://tuf-repo-cdn.sigstore.dev"
_MAX_ROOT_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Period:
    """From when until when something is believed; both ends belong to it."""

    start: dt.datetime
    end: dt.datetime | None

    def __contains__(self, at: dt.datetime) -> bool:
        return self.start <= at and (self.end is None or at <= self.end)


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A transparency log of entries or of certificates."""

    key: PublicKey
    period: Period


@dataclass(frozen=True, slots=True)
class Authority:
    """Who issues certificates, or time stamps."""

    chain: tuple[x509.Certificate, ...]
    """From the certificate that signs to the root; at least one."""
    period: Period


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """All that is believed. Logs are found by their id."""

    logs: Mapping[bytes, TrustedLog]
    certificate_logs: Mapping[bytes, TrustedLog]
    certificate_authorities: tuple[Authority, ...]
    timestamp_authorities: tuple[Authority, ...]


class _Wire(msgspec.Struct, frozen=True, rename="camel"):
    """Unlike in bundles, unknown members are left out: they could only add what is believed, never take away."""


class _Period(_Wire, frozen=True):
    start: dt.datetime
    end: dt.datetime | None = None


class _Key(_Wire, frozen=True):
    raw_bytes: bytes
    valid_for: _Period


class _LogId(_Wire, frozen=True):
    key_id: bytes


class _Log(_Wire, frozen=True):
    public_key: _Key
    log_id: _LogId


class _Certificate(_Wire, frozen=True):
    raw_bytes: bytes


class _Chain(_Wire, frozen=True):
    certificates: tuple[_Certificate, ...]


class _Authority(_Wire, frozen=True):
    cert_chain: _Chain
    valid_for: _Period


class _Root(_Wire, frozen=True):
    media_type: str
    tlogs: tuple[_Log, ...] = ()
    ctlogs: tuple[_Log, ...] = ()
    certificate_authorities: tuple[_Authority, ...] = ()
    timestamp_authorities: tuple[_Authority, ...] = ()


def parse_trust_root(content: bytes) -> TrustRoot:
    """Read a trust root.

    Raises:
        VerificationError: it is malformed; nothing is believed then.
    """
    try:
        wire = decode_json(content, _Root)
        if wire.media_type != _MEDIA_TYPE:
            raise VerificationError(f"expected a trust root of type '{_MEDIA_TYPE}', got '{wire.media_type[:100]}'")
        return TrustRoot(
            _logs(wire.tlogs),
            _logs(wire.ctlogs),
            tuple(_authority(one) for one in wire.certificate_authorities),
            tuple(_authority(one) for one in wire.timestamp_authorities),
        )
    except (MalformedError, ValueError) as error:
        raise VerificationError(f"the trust root is malformed: {error}") from error


def load_trust_root(file: Path | None = None) -> TrustRoot:
    """Read a trust root from a file, or the one of Sigstore's public instance that sigstore-python brings along.

    The latter is as old as the installed package; nothing is fetched.

    Raises:
        CallerError: the file cannot be read.
        VerificationError: it is malformed.
    """
    if file is None:
        store = resources.files("sigstore") / "_store" / quote(_PRODUCTION, safe="")
        return parse_trust_root((store / "trusted_root.json").read_bytes())
    try:
        if file.stat().st_size > _MAX_ROOT_BYTES:
            raise CallerError(f"the trust root {file} has more than {_MAX_ROOT_BYTES} bytes")
        return parse_trust_root(file.read_bytes())
    except OSError as error:
        raise CallerError(f"the trust root {file} cannot be read: {error.strerror}") from error


def _period(wire: _Period) -> Period:
    for one in (wire.start, wire.end):
        if one is not None and one.tzinfo is None:
            raise VerificationError(f"a time in the trust root has no zone: {one.isoformat()}")
    return Period(wire.start, wire.end)


def _logs(wires: Iterable[_Log]) -> dict[bytes, TrustedLog]:
    logs: dict[bytes, TrustedLog] = {}
    for wire in wires:
        period = _period(wire.public_key.valid_for)
        try:
            key = parse_public_key(wire.public_key.raw_bytes)
        except VerificationError:
            continue  # a log with a newer kind of key must not make the others useless
        logs[wire.log_id.key_id] = TrustedLog(key, period)
    return logs


def _authority(wire: _Authority) -> Authority:
    chain = tuple(x509.load_der_x509_certificate(one.raw_bytes) for one in wire.cert_chain.certificates)
    if not chain:
        raise VerificationError("an authority of the trust root has no certificate")
    return Authority(chain, _period(wire.valid_for))
