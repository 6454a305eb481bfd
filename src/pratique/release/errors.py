"""The errors of governed releases.

PratiqueError
├── CallerError
│   └── DigestError            a digest or a reference that cannot be one
├── EnvironmentFaultError      (exit 3: could not decide)
│   ├── ToolMissingError       an external program is not installed
│   ├── ToolFailedError        it is, and it failed
│   └── UnavailableError       a registry, a ledger or a target does not answer
└── RefusedError               (exit 1: decided against)
    ├── EvidenceError          evidence that is missing, malformed, or about something else
    ├── VerificationError      a signature, a certificate or a chain that does not hold
    ├── ConflictError          somebody else wrote first, or the name is taken by something else
    └── NotFoundError          there is no such image, entry or artifact

A room adds its own below these. "Refused" and "could not decide" are never mixed: neither ships, and they are mended
by different people.
"""

from __future__ import annotations

from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError

__all__ = [
    "ConflictError",
    "DigestError",
    "EvidenceError",
    "NotFoundError",
    "ToolFailedError",
    "ToolMissingError",
    "UnavailableError",
    "VerificationError",
]


class DigestError(CallerError):
    """What should be a digest is none."""

    code = "invalid_digest"


class ToolMissingError(EnvironmentFaultError):
    """An external program is not there; the hint says how to get it."""

    code = "tool_missing"


class ToolFailedError(EnvironmentFaultError):
    """An external program ended with an error, or took too long."""

    code = "tool_failed"


class UnavailableError(EnvironmentFaultError):
    """A registry, a ledger, a key service or a target could not be asked."""

    code = "unavailable"


class EvidenceError(RefusedError):
    """Evidence that is missing, malformed, expired, or about another artifact."""

    code = "evidence_refused"


class VerificationError(RefusedError):
    """What is signed does not verify: signature, certificate, transparency log, time stamp or chain."""

    code = "verification_failed"


class ConflictError(RefusedError):
    """A conditional write found something else there; nothing was changed."""

    code = "conflict"


class NotFoundError(RefusedError):
    """There is no such artifact."""

    code = "not_found"
