"""What a token that its issuer did sign says: for whom it is, until when, whose it is, what it allows. Pure."""

from __future__ import annotations

import base64
import hashlib
import math
from typing import TYPE_CHECKING, Any, Final

from pratique.core.ids import PrincipalId
from pratique.orchestrator.access.oidc.token import refused
from pratique.orchestrator.access.principal import Principal, PrincipalKind
from pratique.orchestrator.access.scopes import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pratique.orchestrator.access.settings import OidcSettings

__all__ = ["principal_id_of", "principal_of_claims"]

_MAX_SUBJECT_CHARACTERS: Final = 255  # OpenID Connect Core 1.0, section 2


def principal_of_claims(claims: Mapping[str, Any], settings: OidcSettings, *, now: float) -> Principal:
    """Return whose token it is.

    Args:
        claims: of a token whose signature holds.
        settings: its issuer's.
        now: seconds since 1970.

    Raises:
        UnauthenticatedError: another issuer's, not for us, over, not yet valid, or of nobody.
    """
    expires = _time(claims, "exp")
    is_early = any((_time(claims, name) or 0) > now + settings.leeway_seconds for name in ("nbf", "iat"))
    if expires is None or now >= expires + settings.leeway_seconds or is_early:
        raise refused()
    if claims.get("iss") != settings.issuer or not set(_texts(claims.get("aud"))) & set(settings.audiences):
        raise refused()
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT_CHARACTERS:
        raise refused()
    return Principal(
        principal_id=principal_id_of(settings.issuer, subject),
        kind=PrincipalKind.TOKEN,
        name="token",
        scopes=_scopes(claims, settings),
        tier=settings.tier,
        expires_at=expires + settings.leeway_seconds,
    )


def principal_id_of(issuer: str, subject: str) -> PrincipalId:
    """Return the principal of an issuer's subject: always the same one, and neither of them can be read in it."""
    digest = hashlib.sha256(f"pratique.oidc.v1\0{len(issuer)}\0{issuer}\0{subject}".encode()).digest()
    return PrincipalId(f"oidc_{base64.b32encode(digest[:20]).decode().lower()}")


def _scopes(claims: Mapping[str, Any], settings: OidcSettings) -> frozenset[Scope]:
    found = claims.get(settings.scope_claim)
    names = found.split() if isinstance(found, str) else _texts(found)
    allowed = settings.scopes or {scope.value: (scope,) for scope in Scope}
    return frozenset(settings.default_scopes).union(*(allowed.get(name, ()) for name in names))


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused()
    return float(value)
