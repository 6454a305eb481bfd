"""Why a request is not let in.

AccessError
├── (RefusedError)
│   ├── UnauthenticatedError      no principal, or a credential that does not hold          (401)
│   └── OriginRefusedError        a browser asks from a page that is not ours               (403)
└── (EnvironmentFaultError)       trust cannot be decided: everything is refused until it can
    ├── KeysUnavailableError      the API keys file is missing, unreadable or malformed     (503)
    └── SecretsUnavailableError   the session secret file is unusable; raised at start
"""

from __future__ import annotations

from pratique.core.errors import EnvironmentFaultError, PratiqueError, RefusedError

__all__ = [
    "AccessError",
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


class OriginRefusedError(AccessError, RefusedError):
    """The page that sent this request is neither this host's nor an allowed one."""

    code = "origin_refused"


class KeysUnavailableError(AccessError, EnvironmentFaultError):
    """The API keys cannot be read, so none is accepted."""

    code = "keys_unavailable"


class SecretsUnavailableError(AccessError, EnvironmentFaultError):
    """The secrets that sign sessions cannot be read or made."""

    code = "secrets_unavailable"
