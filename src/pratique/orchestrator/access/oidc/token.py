"""A signed token, taken apart and checked in its form before anything of it is believed. Pure.

A token is three base64url parts (RFC 7515, compact). Refused here: whatever is too long, `crit` and `b64` (we know no
extension), a `typ` that is another kind of token's (RFC 8725, 3.11), keys that the token brings itself (`jwk`, `x5c`;
`jku` and `x5u` are where to fetch them), and JSON that names a key twice: two readers could see two tokens in it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from pratique.orchestrator.access.errors import UnauthenticatedError

__all__ = ["MAX_TOKEN_CHARACTERS", "ParsedToken", "is_token", "parse_object", "parse_token", "refused"]

MAX_TOKEN_CHARACTERS: Final = 8_192
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
_FORBIDDEN: Final = ("crit", "b64", "jwk", "jku", "x5c", "x5u")
_MAX_KEY_ID_CHARACTERS: Final = 256


@dataclass(frozen=True, kw_only=True)
class ParsedToken:
    """A token whose form is right. Its signature has not been looked at: nothing in it is to be believed yet."""

    text: str
    algorithm: str
    key_id: str | None
    issuer: str
    claims: dict[str, Any]


def is_token(credential: str) -> bool:
    """Whether a bearer credential has the form of a signed token."""
    return credential.count(".") == 2  # noqa: PLR2004 - three parts


def parse_token(text: str) -> ParsedToken:
    """Take a token apart.

    Raises:
        UnauthenticatedError: its form is not right. The message never says what of it.
    """
    if len(text) > MAX_TOKEN_CHARACTERS or not _TOKEN.fullmatch(text):
        raise refused()
    first, second, _ = text.split(".")
    header, claims = parse_object(_decoded(first)), parse_object(_decoded(second))
    algorithm, key_id, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(algorithm, str):
        raise refused()
    if any(name in header for name in _FORBIDDEN) or str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise refused()
    if key_id is not None and not (isinstance(key_id, str) and 0 < len(key_id) <= _MAX_KEY_ID_CHARACTERS):
        raise refused()
    if not isinstance(issuer, str):
        raise refused()
    return ParsedToken(text=text, algorithm=algorithm, key_id=key_id, issuer=issuer, claims=claims)


def parse_object(data: bytes) -> dict[str, Any]:
    """Read one JSON object in which no key stands twice, at any depth; raise `UnauthenticatedError` otherwise."""
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise refused() from error
    if not isinstance(found, dict):
        raise refused()
    return found


def refused() -> UnauthenticatedError:
    """Return the one refusal of tokens, which says nothing of what was wrong."""
    return UnauthenticatedError("The token does not hold.", hint="Get a new one from your identity provider.")


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError) as error:
        raise refused() from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("A key stands twice.")
    return found


def _no_constant(name: str) -> Any:  # noqa: ANN401 - the signature that json asks for
    raise ValueError(f"{name} is not JSON.")
