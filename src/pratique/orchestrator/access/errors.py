"""Why a request is not let in.

AccessError
├── (RefusedError)
│   ├── UnauthenticatedError      no principal, or a credential that does not hold          (401)
│   ├── ForbiddenError            a principal whose scopes do not cover this                (403)
│   │   └── HiddenError           the same, where even the path is not theirs to know         (404)
│   ├── HeadersRefusedError       headers that two servers could read differently           (400)
│   └── OriginRefusedError        a browser asks from a page that is not ours               (403)
└── (EnvironmentFaultError)       trust cannot be decided: everything is refused until it can
    ├── KeysUnavailableError      the API keys file, or a token issuer's keys, cannot be had (503)
    └── SecretsUnavailableError   the session secret file is unusable; raised at start
"""

from __future__ import annotations

from pratique.core.errors import EnvironmentFaultError, PratiqueError, RefusedError

__all__ = [
    "AccessError",
    "ForbiddenError",
    "HeadersRefusedError",
    "HiddenError",
    "KeysUnavailableError",
    "OriginRefusedError",
    "SecretsUnavailableError",
    "UnauthenticatedError",
]


class AccessError(PratiqueError):
    """Base of everything that access control raises on purpose."""


class UnauthenticatedError(AccessError, RefusedError):
    """No principal. The message never says which part of a credential was wrong."""

    code = "unauthenticated"


class ForbiddenError(AccessError, RefusedError):
    """Known, and not allowed to do this."""

    code = "forbidden"


class HiddenError(ForbiddenError):
    """Not allowed here, and answered as if there were no such path."""

    code = "not_found"


class HeadersRefusedError(AccessError, RefusedError):
    """A header comes twice, or holds what no header may: whoever is before us may have read it differently."""

    code = "invalid_request"


class OriginRefusedError(AccessError, RefusedError):
    """The page that sent this request is neither this host's nor an allowed one."""

    code = "origin_refused"


class KeysUnavailableError(AccessError, EnvironmentFaultError):
    """The keys that would decide cannot be read, so nothing that needs them is accepted."""

    code = "keys_unavailable"


class SecretsUnavailableError(AccessError, EnvironmentFaultError):
    """The secrets that sign sessions cannot be read or made."""

    code = "secrets_unavailable"
