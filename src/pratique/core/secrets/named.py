"""Credentials that are known by what stands before them: headers, registries, connection strings, session tokens.

As everywhere, a pattern is matched where an anchor stands, and ends after a bounded number of characters.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from pratique.core.secrets.looks import entropy_bits, is_aws_session_token, is_placeholder
from pratique.core.secrets.words import is_random_secret, is_strong_password

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["find_authorization", "find_azure_key", "find_registry_auth", "find_session_token"]

_EQUALS: Final = r"(?:\\?[\"'`]|\]){0,2}[ \t]{0,8}(?::=|=>|[=:>,])[ \t]{0,8}\\?[\"'`]?"
_BASE64_ENDS: Final = r"(?![A-Za-z0-9+/=_\-])"
_ENDS: Final = r"(?![A-Za-z0-9+/=_.\-])"
_SESSION: Final = re.compile(
    rf"(?:(?<=session)|(?<=security)|(?<=session[_\-])|(?<=security[_\-]))token{_EQUALS}([A-Za-z0-9+/]{{100,4000}}={{0,2}}){_ENDS}",
    re.IGNORECASE,
)
_AZURE: Final = re.compile(
    rf"(?:accountkey{_EQUALS}([A-Za-z0-9+/]{{86}}==)|(?<=shared)accesskey{_EQUALS}([A-Za-z0-9+/]{{43}}=)){_ENDS}",
    re.IGNORECASE,
)
_EMULATOR: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1"
"""The key of Azure's storage emulator begins so: it is public, and the same everywhere."""
_HEADER: Final = re.compile(
    rf"authorization{_EQUALS}(?:(?:bearer|token)[ \t]{{1,8}}([A-Za-z0-9._~+/\-]{{20,2000}}={{0,2}})"
    rf"|basic[ \t]{{1,8}}([A-Za-z0-9+/]{{12,1000}}={{0,2}})){_BASE64_ENDS}",
    re.IGNORECASE,
)
_REGISTRY: Final = re.compile(
    r"(?:\\?\"auth\\?\"[ \t]{0,8}:[ \t]{0,8}\\?\"|_auth[ \t]{0,4}=[ \t]{0,4}\"?)"
    rf"([A-Za-z0-9+/]{{12,1000}}={{0,2}}){_BASE64_ENDS}"
    rf"|(?<=_auth)[Tt]oken[ \t]{{0,4}}=[ \t]{{0,4}}\"?([A-Za-z0-9._~+/\-]{{20,1000}}={{0,2}}){_BASE64_ENDS}"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_JUDGED: Final = 200
_MIN_KEY_BITS: Final = 4.0


def _finder(pattern: re.Pattern[str], *checks: Callable[[str], bool]) -> Callable[[str, int], tuple[int, int] | None]:
    """Return what finds the group that matched, where its check agrees."""

    def find(text: str, at: int) -> tuple[int, int] | None:
        found = pattern.match(text, at)
        if found is None or found.lastindex is None:
            return None
        return found.span(found.lastindex) if checks[found.lastindex - 1](found.group(found.lastindex)) else None

    return find


def _is_azure_key(value: str) -> bool:
    return not value.startswith(_EMULATOR) and not is_placeholder(value) and entropy_bits(value) >= _MIN_KEY_BITS


def _is_bearer(value: str) -> bool:
    return is_random_secret(value[:_MAX_JUDGED])


def _is_registry_token(value: str) -> bool:
    return (_UUID.fullmatch(value) is not None and not is_placeholder(value)) or _is_bearer(value)


def _is_user_and_password(value: str) -> bool:
    """Whether it is the base64 of a name, a colon and a password that protects something."""
    try:
        said = base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    user, colon, password = said.partition(":")
    return bool(colon) and said.isprintable() and password != user and is_strong_password(password)


find_session_token: Final = _finder(_SESSION, is_aws_session_token)
find_azure_key: Final = _finder(_AZURE, _is_azure_key, _is_azure_key)
find_authorization: Final = _finder(_HEADER, _is_bearer, _is_user_and_password)
find_registry_auth: Final = _finder(_REGISTRY, _is_user_and_password, _is_registry_token)
