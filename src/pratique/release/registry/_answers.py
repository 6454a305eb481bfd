"""What a registry's answers mean: its errors as ours, and where a list goes on. Pure.

Source: OCI distribution specification 1.1, "Error Codes" and "Listing Tags".
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urljoin

import msgspec

from pratique.core.errors import PratiqueError
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import ConflictError, NotFoundError, UnavailableError
from pratique.release.registry._http import Answer, origin_of
from pratique.release.registry.errors import RegistryRefusedError

__all__ = ["expect", "next_page", "said_by"]

_MAX_SHOWN: Final = 300
_NEXT: Final = re.compile(r'<([^<>]*)>((?:\s*;\s*[a-zA-Z*]+\s*=\s*(?:"[^"]*"|[^\s;,"]+))*)')
_IS_NEXT: Final = re.compile(r';\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next)\s*(?:;|$)', re.IGNORECASE)
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_MISSING: Final = 404
_CONFLICTS: Final = frozenset({409, 412})
_CLIENT_ERRORS: Final = range(400, 500)


class _Error(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: list[_Error]


def expect(answer: Answer, *statuses: int) -> Answer:
    """Return the answer where it has one of these statuses.

    Raises:
        NotFoundError: there is no such thing.
        ConflictError: a condition does not hold, or a tag is immutable.
        RegistryRefusedError: the registry says no.
        UnavailableError: anything else.
    """
    if answer.status in statuses:
        return answer
    raise _meaning(answer)


def _meaning(answer: Answer) -> PratiqueError:
    told = f"{answer.asked}: the registry answered {answer.status}: {said_by(answer.body)}"
    if answer.status == _MISSING:
        return NotFoundError(told)
    if answer.status in _CONFLICTS:
        return ConflictError(told, hint="Read what is there now, then decide.")
    if answer.status in {_UNAUTHORIZED, _FORBIDDEN}:
        return RegistryRefusedError(told, hint="Log in with: podman login HOST. See `auth_files` in the settings.")
    if answer.status in _CLIENT_ERRORS:
        return RegistryRefusedError(told)
    return UnavailableError(told)


def said_by(body: bytes) -> str:
    """Return what an error's body says to people, on one line and short."""
    try:
        errors = decode_json(body, _Errors).errors
    except MalformedError:
        text = body[:_MAX_SHOWN].decode("utf-8", "replace")
    else:
        text = "; ".join(f"{one.code}: {one.message}" for one in errors[:3])
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown[:_MAX_SHOWN] or "nothing"


def next_page(answer: Answer, url: str) -> str:
    """Return where a list goes on; empty where it ends.

    Raises:
        UnavailableError: on another host; nobody follows there.
    """
    for target, parameters in _NEXT.findall(answer.headers.get("Link", "")):
        if _IS_NEXT.search(parameters):
            following: str = urljoin(url, target)
            if origin_of(following) != origin_of(url):
                raise UnavailableError(f"{answer.asked}: the list goes on at another host: '{following[:200]}'")
            return following
    return ""
