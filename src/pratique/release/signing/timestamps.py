"""RFC 3161 time stamps over a signature, by an authority of the trust root."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pratique.release.errors import VerificationError
from pratique.release.signing.trust import Authority

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

__all__ = ["verify_timestamp"]


def verify_timestamp(response: bytes, message: bytes, authorities: Iterable[Authority]) -> dt.datetime:
    """Return when a message existed, as an authority that is believed for that time says.

    The authority's certificate comes from the trust root; one in the response must be the same.

    Raises:
        VerificationError: no authority that is believed says so.
    """
    from rfc3161_client import decode_timestamp_response

    try:
        decoded = decode_timestamp_response(response)
        at = decoded.tst_info.gen_time.astimezone(dt.UTC)
    except ValueError as error:
        raise VerificationError(f"expected an RFC 3161 response: {error}") from error
    reasons = []
    for authority in authorities:
        reason = _reason_against(decoded, message, authority)
        if not reason and at in authority.period:
            return at
        reasons.append(reason or f"it is not trusted for {at.isoformat()}")
    raise VerificationError(f"no trusted authority made the time stamp: {'; '.join(reasons) or 'there is none'}")


def _reason_against(response: TimeStampResponse, message: bytes, authority: Authority) -> str:
    from rfc3161_client import VerificationError as NotVerified
    from rfc3161_client import VerifierBuilder

    leaf, *others = authority.chain
    if not others:
        return "the trust root has no chain for it"
    builder = VerifierBuilder().tsa_certificate(leaf).add_root_certificate(others[-1])
    for certificate in others[:-1]:
        builder = builder.add_intermediate_certificate(certificate)
    try:
        builder.build().verify_message(response, message)
    except (NotVerified, ValueError) as error:
        return str(error)
    return ""
