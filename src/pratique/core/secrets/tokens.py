"""What makes a token of a known issuer genuine: checksums and contents, where the format has them."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from typing import Final

__all__ = ["crc32_base62", "is_github_token", "is_jwt", "is_npm_token", "is_pratique_key"]

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM: Final = 6
_CLAIMS: Final = frozenset({"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "scope", "role", "email"})
_EXAMPLE_SUBJECT: Final = "1234567890"
_MIN_DISTINCT: Final = 14
_END_OF_32_BYTES: Final = re.compile(r"[AEIMQUYcgkosw048]")


def crc32_base62(text: str) -> str:
    """Return the checksum that GitHub and npm end their tokens with."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits


def _has_checksum(body: str) -> bool:
    return crc32_base62(body[:-_CHECKSUM]) == body[-_CHECKSUM:]


def is_github_token(token: str) -> bool:
    """Whether its checksum is right; fine-grained tokens are known by their shape."""
    return len(set(token)) >= _MIN_DISTINCT and (token.startswith("github_pat_") or _has_checksum(token[4:]))


def is_npm_token(token: str) -> bool:
    """Whether its checksum is right."""
    return _has_checksum(token.removeprefix("npm_"))


def is_pratique_key(token: str) -> bool:
    """Whether 32 random bytes can be what it carries."""
    body = token.removeprefix("pk_")
    is_other = body.startswith(("live_", "test_"))
    return not is_other and bool(_END_OF_32_BYTES.match(body[-1])) and len(set(body)) >= _MIN_DISTINCT


def is_jwt(token: str) -> bool:
    """Whether it is signed and says whose and what for; the example that everybody copies is not."""
    head, payload, signature = token.split(".")
    algorithm, claims = _json(head).get("alg"), _json(payload)
    if not isinstance(algorithm, str) or algorithm.lower() == "none" or len(set(signature)) < _MIN_DISTINCT:
        return False
    return bool(_CLAIMS & claims.keys()) and claims.get("sub") != _EXAMPLE_SUBJECT


def _json(part: str) -> dict[str, object]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
