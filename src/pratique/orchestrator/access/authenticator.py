"""From a request's headers to its principal: an API key where one is given, else a session cookie.

A credential that is there must hold: a bad key is refused, even next to a good cookie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.orchestrator.access.errors import UnauthenticatedError
from pratique.orchestrator.access.headers import SESSION_COOKIE, bearer_token, cookie

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pratique.orchestrator.access.keys import ApiKeyFile
    from pratique.orchestrator.access.principal import Principal
    from pratique.orchestrator.access.sessions import SessionSigner

__all__ = ["Authenticator", "SessionGrant"]


@dataclass(frozen=True, kw_only=True)
class SessionGrant:
    """A principal; `set_cookie` is a Set-Cookie value to send along where the session is new or due for renewal."""

    principal: Principal
    set_cookie: str | None


class Authenticator:
    """Decides who asks. `headers` are mappings with lower-case names (or case-insensitive ones)."""

    def __init__(self, *, sessions: SessionSigner, keys: ApiKeyFile | None = None) -> None:
        self._sessions = sessions
        self._keys = keys

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Return the principal of a request.

        Raises:
            UnauthenticatedError: no credential, or one that does not hold.
            KeysUnavailableError: an API key was given and the keys cannot be read.
        """
        token = bearer_token(headers)
        if token is not None:
            return self._by_key(token)
        value = cookie(headers, SESSION_COOKIE)
        if value is None:
            raise UnauthenticatedError(
                "No session cookie and no API key.", hint="Open the page once, or send 'Authorization: Bearer pk_…'."
            )
        return self._sessions.verify(value).principal

    def authenticate_key(self, headers: Mapping[str, str]) -> Principal:
        """Return the principal of a request that must carry an API key; raises as `authenticate` does."""
        token = bearer_token(headers)
        if token is None:
            raise UnauthenticatedError("No API key.", hint="Send 'Authorization: Bearer pk_…'.")
        return self._by_key(token)

    def session(self, headers: Mapping[str, str], *, secure: bool = False) -> SessionGrant:
        """Return the request's principal, with a new session where it has none that holds; renews what is due.

        Raises:
            UnauthenticatedError: an Authorization header is there and does not hold.
            KeysUnavailableError: an API key was given and the keys cannot be read.
        """
        token = bearer_token(headers)
        if token is not None:
            return SessionGrant(principal=self._by_key(token), set_cookie=None)
        try:
            verified = self._sessions.verify(cookie(headers, SESSION_COOKIE) or "")
        except UnauthenticatedError:
            principal, value = self._sessions.issue(secure=secure)
            return SessionGrant(principal=principal, set_cookie=value)
        value_if_due = self._sessions.renew(verified.principal, secure=secure) if verified.is_due else None
        return SessionGrant(principal=verified.principal, set_cookie=value_if_due)

    def _by_key(self, token: str) -> Principal:
        if self._keys is None:
            raise UnauthenticatedError("This server has no API keys.", hint="Set `api_keys_file`.")
        return self._keys.verify(token)
