"""An issuer's public keys (a JWK set, RFC 7517), and whether one of them signed a token. Pure.

A signature that held is remembered as long as these keys are: a token comes with every request, and its signature takes
longer to check than everything else about it.

Only keys that can verify and do nothing else: RSA from 2048 bits, the NIST curves, Ed25519. A shared secret (`oct`) in
a set is left out, and each key verifies only the algorithms of its own kind, so that a public key is never taken for a
secret.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from pratique.orchestrator.access.errors import KeysUnavailableError, UnauthenticatedError
from pratique.orchestrator.access.oidc.token import parse_object, refused

if TYPE_CHECKING:
    from jwt import PyJWK

    from pratique.orchestrator.access.oidc.token import ParsedToken

__all__ = ["KeySet", "parse_key_set"]

_MAX_KEYS: Final = 100
_MAX_VERIFIED: Final = 10_000
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALGORITHMS: Final = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_MIN_MODULUS_CHARACTERS: Final = 342  # 2048 bits in base64url


class KeySet:
    """The keys of one issuer."""

    def __init__(self, keys: list[dict[str, Any]]) -> None:
        self._keys = keys
        self._made: dict[tuple[int, str], PyJWK] = {}
        self._verified: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def knows(self, token: ParsedToken) -> bool:
        """Whether there is a key that could have signed it."""
        return bool(self._candidates(token))

    def verify(self, token: ParsedToken) -> None:
        """Raise `UnauthenticatedError` where none of the keys signed the token."""
        import jwt

        digest = hashlib.sha256(token.text.encode()).digest()
        if digest in self._verified:
            return
        for number in self._candidates(token):
            try:
                jwt.PyJWS().decode_complete(token.text, self._key(number, token.algorithm), [token.algorithm])
            except jwt.PyJWTError:
                continue
            self._verified[digest] = None
            if len(self._verified) > _MAX_VERIFIED:
                self._verified.popitem(last=False)
            return
        raise refused()

    def _candidates(self, token: ParsedToken) -> list[int]:
        return [
            number
            for number, key in enumerate(self._keys)
            if (token.key_id is None or key.get("kid") == token.key_id)
            and token.algorithm in _ALGORITHMS[_kind(key)]
            and key.get("alg", token.algorithm) == token.algorithm
        ]

    def _key(self, number: int, algorithm: str) -> PyJWK:
        import jwt

        if (number, algorithm) not in self._made:
            self._made[number, algorithm] = jwt.PyJWK(self._keys[number], algorithm)
        return self._made[number, algorithm]


def parse_key_set(data: bytes, *, origin: str) -> KeySet:
    """Read a JWK set; keys of other kinds are left out.

    Raises:
        KeysUnavailableError: it is no JWK set, or holds no key that could be used.
    """
    try:
        entries = parse_object(data).get("keys")
    except UnauthenticatedError as error:
        raise KeysUnavailableError(f"The keys at {origin} are not a JWK set.") from error
    if not isinstance(entries, list):
        raise KeysUnavailableError(f"The keys at {origin} are not a JWK set.")
    usable = [entry for entry in entries[:_MAX_KEYS] if isinstance(entry, dict) and _is_usable(entry)]
    if not usable:
        raise KeysUnavailableError(f"None of the keys at {origin} can verify a signature.")
    return KeySet(usable)


def _is_usable(key: dict[str, Any]) -> bool:
    import jwt

    operations = key.get("key_ops", ["verify"])
    may_verify = key.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if _kind(key) not in _ALGORITHMS or not may_verify:
        return False
    if key.get("kty") == "RSA" and len(str(key.get("n", ""))) < _MIN_MODULUS_CHARACTERS:
        return False
    try:
        jwt.PyJWK(key, _ALGORITHMS[_kind(key)][0])
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return False
    return True


def _kind(key: dict[str, Any]) -> tuple[str, str | None]:
    kind, curve = key.get("kty"), key.get("crv")
    return str(kind), None if kind == "RSA" else str(curve)
