"""Who may do what at a registry: answers a challenge with a login, or with a token got for one.

Sources: RFC 7235 (challenges), RFC 6750 (bearer tokens), the token specification of the distribution project.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import UnavailableError
from pratique.release.registry.credentials import Credentials, Login
from pratique.release.registry.names import RepositoryName

__all__ = ["Authorizer", "Challenge", "Scope", "TokenRequest", "parse_challenge"]

_PARAMETER: Final = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_CLIENT: Final = "pratique"


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be done with a repository."""

    repository: RepositoryName
    actions: str
    """"pull", or "pull,push"."""

    def __str__(self) -> str:
        return f"repository:{self.repository.path}:{self.actions}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry wants to see."""

    scheme: str
    """In lower case."""
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked of a token server: a GET, or a POST where there is a form."""

    url: str
    address: str
    """The registry's that names the token server: it may lead to plain HTTP only where itself it is asked so."""
    authorization: str = ""
    form: bytes = b""


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


def parse_challenge(header: str) -> Challenge | None:
    """Return the challenge that can be answered, bearer before basic; None where there is none."""
    found: dict[str, Challenge] = {}
    for scheme in ("bearer", "basic"):
        begun = re.search(rf"(?:^|,)\s*{scheme}(?=\s|$)", header, re.IGNORECASE)
        if begun is None:
            continue
        rest = re.split(r",\s*(?:bearer|basic|negotiate|digest)\s", header[begun.end() :], flags=re.IGNORECASE)[0]
        named = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
        found[scheme] = Challenge(scheme, named.get("realm", ""), named.get("service", ""), named.get("scope", ""))
    return found.get("bearer") or found.get("basic")


class Authorizer:
    """Keeps what was granted, by address and scope. Safe to use from several threads."""

    def __init__(self, credentials: Credentials, fetch: Callable[[TokenRequest], bytes]) -> None:
        self._credentials = credentials
        self._fetch = fetch
        self._granted: dict[Scope, str] = {}
        self._lock = threading.Lock()

    def header(self, scope: Scope) -> str | None:
        """Return the header Authorization that was granted for a scope."""
        with self._lock:
            return self._granted.get(scope)

    def answer(self, scope: Scope, header: str) -> str | None:
        """Return the header that answers a challenge, None where there is no login that could.

        Raises:
            UnavailableError: the token server did not answer, or not with a token.
        """
        challenge = parse_challenge(header)
        if challenge is None:
            return None
        login = self._credentials.login(scope.repository)
        if challenge.scheme == "basic":
            granted = login.basic if login is not None else None
        else:
            granted = "Bearer " + _token(self._fetch(_request(challenge, scope, login)), challenge.realm)
        if granted is not None:
            with self._lock:
                self._granted[scope] = granted
        return granted


def _request(challenge: Challenge, scope: Scope, login: Login | None) -> TokenRequest:
    # Both: a front may have been challenged for less than what is to be done.
    scopes = dict.fromkeys(one for one in (challenge.scope, str(scope)) if one)
    asked = [*([("service", challenge.service)] if challenge.service else []), *(("scope", one) for one in scopes)]
    if login is not None and login.refresh_token:
        grant = [("grant_type", "refresh_token"), ("refresh_token", login.refresh_token), ("client_id", _CLIENT)]
        return TokenRequest(challenge.realm, scope.repository.address, form=urlencode([*grant, *asked]).encode())
    url = f"{challenge.realm}{'&' if '?' in challenge.realm else '?'}{urlencode(asked)}"
    return TokenRequest(url, scope.repository.address, authorization=login.basic if login is not None else "")


def _token(answer: bytes, realm: str) -> str:
    try:
        read = decode_json(answer, _Token)
    except MalformedError as error:
        raise UnavailableError(f"the token server {realm[:200]} did not answer with a token") from error
    token = read.token or read.access_token
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise UnavailableError(f"the token server {realm[:200]} did not answer with a token")
    return token
