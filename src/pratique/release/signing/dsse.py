"""DSSE envelopes: a payload, its type, and one signature over both.

The signature covers the pre-authentication encoding (PAE), so a payload can never be taken for one of another type.
Source: secure-systems-lab/dsse v1.0.0, `protocol.md` and `envelope.md`. Envelopes with several signatures are refused:
a Sigstore bundle allows one, and whoever needs two signers writes two attestations.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import VerificationError

__all__ = ["Envelope", "WireEnvelope", "envelope_of", "pae", "parse_envelope", "wire_of"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed payload. That the signature holds has not been checked."""

    payload: bytes
    payload_type: str
    signature: bytes

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: lengths, type and payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


class _WireSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    sig: bytes
    keyid: str = ""
    """Not signed, so it is never looked at."""


class WireEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An envelope as JSON; `bytes` are base64 with padding, nothing else in them (RFC 4648, 3.3)."""

    payload: bytes
    payload_type: str
    signatures: list[_WireSignature]


def envelope_of(wire: WireEnvelope) -> Envelope:
    """Return what a wire envelope says.

    Raises:
        VerificationError: it has not exactly one signature, or an empty one.
    """
    if len(wire.signatures) != 1 or not wire.signatures[0].sig:
        raise VerificationError(f"expected an envelope with one signature, got {len(wire.signatures)} or an empty one")
    return Envelope(wire.payload, wire.payload_type, wire.signatures[0].sig)


def wire_of(envelope: Envelope) -> WireEnvelope:
    """Return an envelope as it is written."""
    return WireEnvelope(envelope.payload, envelope.payload_type, [_WireSignature(envelope.signature)])


def parse_envelope(content: bytes) -> Envelope:
    """Read an envelope that stands alone, as cosign's older layout has it.

    Raises:
        VerificationError: it is malformed.
    """
    try:
        return envelope_of(decode_json(content, WireEnvelope))
    except MalformedError as error:
        raise VerificationError(f"expected a DSSE envelope: {error}") from error
