"""From a request's headers to its principal: an API key or a token where one is given, else a session cookie.

A credential that is there must hold: a bad key is refused, even next to a good cookie. What has to be waited for (the
keys of a token's issuer) is got by `prepare`; everything else decides at once. Who was let in to stay, over a socket,
is looked at again by `verify_holds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.clock import Clock, SystemClock
from pratique.orchestrator.access.errors import UnauthenticatedError
from pratique.orchestrator.access.headers import bearer_token, cookie
from pratique.orchestrator.access.oidc.token import is_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pratique.orchestrator.access.keys import ApiKeyFile
    from pratique.orchestrator.access.oidc.verifier import TokenVerifier
    from pratique.orchestrator.access.principal import Principal
    from pratique.orchestrator.access.sessions import SessionSigner

__all__ = ["Authenticator", "SessionGrant"]


@dataclass(frozen=True, kw_only=True)
class SessionGrant:
    """A principal; `set_cookie` is a Set-Cookie value to send along where the session is new or due for renewal."""

    principal: Principal
    set_cookie: str | None
    is_new: bool = False
    """Whether the principal did not exist before."""


class Authenticator:
    """Decides who asks. `headers` are mappings with lower-case names (or case-insensitive ones)."""

    def __init__(
        self,
        *,
        sessions: SessionSigner,
        keys: ApiKeyFile | None = None,
        tokens: TokenVerifier | None = None,
        anonymous: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._sessions = sessions
        self._keys = keys
        self._tokens = tokens
        self._anonymous = anonymous
        self._clock = clock or SystemClock()

    async def prepare(self, headers: Mapping[str, str]) -> None:
        """Get what the decision about these headers needs. Does not raise; a bad credential is refused later."""
        if self._tokens is None:
            return
        try:
            token = bearer_token(headers)
        except UnauthenticatedError:
            return
        if token is not None and is_token(token):
            await self._tokens.prepare(token)

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Return the principal of a request.

        Raises:
            UnauthenticatedError: no credential, or one that does not hold.
            KeysUnavailableError: an API key or a token was given and the keys cannot be read.
        """
        token = bearer_token(headers)
        if token is not None:
            return self._by_bearer(token)
        if not self._anonymous:
            raise self._nobody()
        value = cookie(headers, self._sessions.cookie_name)
        if value is None:
            raise UnauthenticatedError(
                "No session cookie and no API key.", hint="Open the page once, or send 'Authorization: Bearer pk_…'."
            )
        return self._sessions.verify(value).principal

    def authenticate_key(self, headers: Mapping[str, str]) -> Principal:
        """Return the principal of a request to /v1: by an API key or a token, never by a cookie.

        Raises:
            UnauthenticatedError, KeysUnavailableError: as `authenticate` does.
        """
        token = bearer_token(headers)
        if token is None:
            raise UnauthenticatedError("No API key.", hint="Send 'Authorization: Bearer pk_…'.")
        return self._by_bearer(token)

    def session(self, headers: Mapping[str, str]) -> SessionGrant:
        """Return the request's principal, with a new session where it has none that holds; renews what is due.

        Raises:
            UnauthenticatedError: an Authorization header is there and does not hold, or nobody may come without one.
            KeysUnavailableError: an API key or a token was given and the keys cannot be read.
        """
        token = bearer_token(headers)
        if token is not None:
            return SessionGrant(principal=self._by_bearer(token), set_cookie=None)
        if not self._anonymous:
            raise self._nobody()
        try:
            verified = self._sessions.verify(cookie(headers, self._sessions.cookie_name) or "")
        except UnauthenticatedError:
            principal, value = self._sessions.issue()
            return SessionGrant(principal=principal, set_cookie=value, is_new=True)
        value_if_due = self._sessions.renew(verified.principal) if verified.is_due else None
        return SessionGrant(principal=verified.principal, set_cookie=value_if_due)

    def verify_holds(self, principal: Principal) -> None:
        """See that the credential which a principal came with still holds. Cheap: for every frame and heartbeat.

        Raises:
            UnauthenticatedError: it has ended, or its key was revoked or has lost a scope.
            KeysUnavailableError: it came with an API key, and the keys cannot be read.
        """
        if principal.expires_at is not None and self._clock.epoch() >= principal.expires_at:
            raise UnauthenticatedError("The credential has ended.")
        if principal.key_id and self._keys is not None:
            self._keys.verify_holds(principal)

    @staticmethod
    def _nobody() -> UnauthenticatedError:
        return UnauthenticatedError("No API key and no token.", hint="Log in, or send 'Authorization: Bearer …'.")

    def _by_bearer(self, token: str) -> Principal:
        if self._tokens is not None and is_token(token):
            return self._tokens.verify(token)
        return self._by_key(token)

    def _by_key(self, token: str) -> Principal:
        if self._keys is None:
            raise UnauthenticatedError("This server has no API keys.", hint="Set `api_keys_file`.")
        return self._keys.verify(token)
