"""What request headers say, read from plain mappings with lower-case names. Pure.

Tokens, cookies, whether a browser's page may ask, and the affinity key by which the edge keeps a client on one replica.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pratique.orchestrator.access.errors import OriginRefusedError, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = [
    "AFFINITY_COOKIE",
    "AFFINITY_HEADER",
    "SECURE_SESSION_COOKIE",
    "SESSION_COOKIE",
    "AffinityGrant",
    "affinity",
    "bearer_token",
    "check_origin",
    "cookie",
    "set_cookie",
]

AFFINITY_COOKIE: Final = "pratique_affinity"
AFFINITY_HEADER: Final = "x-pratique-affinity"
SESSION_COOKIE: Final = "pratique_session"
SECURE_SESSION_COOKIE: Final = f"__Host-{SESSION_COOKIE}"

_MAX_COOKIES_CHARACTERS: Final = 16_384
_MAX_TOKEN_CHARACTERS: Final = 8_192
_AFFINITY: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class AffinityGrant:
    """The client's affinity key; `set_cookie` is the header value that gives it to a client that has none yet."""

    key: str
    set_cookie: str | None


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """Return the bearer token, None where there is no Authorization header at all.

    Raises:
        UnauthenticatedError: there is one, and it is not a bearer token; a cookie does not stand in for it.
    """
    value = headers.get("authorization")
    if value is None:
        return None
    scheme, _, token = value.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN_CHARACTERS:
        raise UnauthenticatedError("The Authorization header must be 'Bearer' and an API key or a token.")
    return token


def cookie(headers: Mapping[str, str], name: str) -> str | None:
    """Return the value of the first cookie of that name; None where it is missing or the header is too long to read."""
    header = headers.get("cookie", "")
    if len(header) > _MAX_COOKIES_CHARACTERS:
        return None
    for pair in header.split(";"):
        key, separator, value = pair.strip().partition("=")
        if separator and key == name:
            return value.strip().strip('"')
    return None


def set_cookie(name: str, value: str, *, max_age_seconds: int, secure: bool, http_only: bool = True) -> str:
    """Return a Set-Cookie value; cookie values made here need no quoting."""
    parts = [f"{name}={value}", "Path=/", f"Max-Age={max_age_seconds}", "SameSite=Lax"]
    parts += ["HttpOnly"] * http_only + ["Secure"] * secure
    return "; ".join(parts)


def check_origin(headers: Mapping[str, str], *, allowed: Collection[str] = ()) -> None:
    """Refuse a browser's request from a foreign page; programs, which send no Origin, pass.

    Args:
        headers: of the request.
        allowed: further origins, as browsers write them: "https://chat.example.org".

    Raises:
        OriginRefusedError: the Origin is neither the Host asked nor an allowed one.
    """
    origin = headers.get("origin")
    if origin is None:
        # Old browsers omit Origin in places where they send this one.
        if headers.get("sec-fetch-site", "none") == "cross-site":
            raise OriginRefusedError("A page of another site may not ask here.")
        return
    if _normal(origin) in {_normal(one) for one in allowed} - {None}:
        return
    scheme = urlsplit(origin).scheme if _normal(origin) else ""
    if scheme and _normal(origin) == _normal(f"{scheme}://{headers.get('host', '')}"):
        return
    raise OriginRefusedError(
        f"The page's origin '{origin[:200]}' is not this host.",
        hint="Add it to the setting `allowed_origins` if it is yours.",
    )


def affinity(
    headers: Mapping[str, str], *, secure: bool = False, mint: Callable[[], str] | None = None
) -> AffinityGrant:
    """Return the client's affinity key, from its header or else its cookie, or a new one to set.

    It is no credential: it only says where requests go. Malformed ones are replaced.
    """
    for key in (headers.get(AFFINITY_HEADER), cookie(headers, AFFINITY_COOKIE)):
        if key and _AFFINITY.fullmatch(key):
            return AffinityGrant(key=key, set_cookie=None)
    key = (mint or _mint)()
    value = set_cookie(AFFINITY_COOKIE, key, max_age_seconds=30 * 86_400, secure=secure)
    return AffinityGrant(key=key, set_cookie=value)


def _mint() -> str:
    return secrets.token_urlsafe(16)


def _normal(origin: str) -> tuple[str, str, int] | None:
    """Return (scheme, host, port), None for what is not an http origin ("null", paths, credentials, bad ports)."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    has_more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or has_more:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]
