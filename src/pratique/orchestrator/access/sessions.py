"""Anonymous browser sessions: a random principal id in a signed cookie, 30 days, renewed while it is used.

The secret file holds one secret a line, first line first used: the first signs, every one verifies, so a secret is
rotated by putting a new line on top and removing the old one 30 days later. The file is made with one random secret,
readable by its owner only, where it does not exist; two replicas that start together end up with the same one.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from itsdangerous import BadData, TimestampSigner

from pratique.core.clock import Clock, SystemClock
from pratique.core.ids import IdSource, PrincipalId, RandomIds
from pratique.orchestrator.access.errors import SecretsUnavailableError, UnauthenticatedError
from pratique.orchestrator.access.headers import SECURE_SESSION_COOKIE, SESSION_COOKIE, set_cookie
from pratique.orchestrator.access.principal import Principal, PrincipalKind
from pratique.orchestrator.access.scopes import SESSION_SCOPES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "ANONYMOUS_TIER",
    "MAX_AGE_SECONDS",
    "RENEW_AFTER_SECONDS",
    "SessionSigner",
    "VerifiedSession",
    "load_secrets",
]

MAX_AGE_SECONDS: Final = 30 * 86_400
RENEW_AFTER_SECONDS: Final = 86_400
_COOKIE: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_MIN_SECRET_CHARACTERS: Final = 32
_PREFIX: Final = "usr"
ANONYMOUS_TIER: Final = "anonymous"
"""The limits of everybody without an account, where the settings name such a tier."""


@dataclass(frozen=True, kw_only=True)
class VerifiedSession:
    """A session that holds, and whether its cookie is due to be renewed."""

    principal: Principal
    is_due: bool


class SessionSigner:
    """Signs and verifies session cookies."""

    def __init__(
        self,
        signing_secrets: Sequence[str],
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        secure: bool = False,
    ) -> None:
        """Sign with the first secret; `secure` is for browsers that come by HTTPS.

        Raises:
            SecretsUnavailableError: there is none, or a short one.
        """
        if not signing_secrets or any(len(secret) < _MIN_SECRET_CHARACTERS for secret in signing_secrets):
            raise SecretsUnavailableError(f"Session secrets need at least {_MIN_SECRET_CHARACTERS} characters each.")
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds(self._clock)
        self._secure = secure
        # The prefix has browsers refuse it from anybody but this very host (RFC 6265bis 4.1.3.2): a neighbouring
        # subdomain cannot plant a session.
        self.cookie_name = SECURE_SESSION_COOKIE if secure else SESSION_COOKIE
        # itsdangerous signs with the last key of the list.
        self._signer = _ClockedSigner(list(reversed(signing_secrets)), self._clock)

    def issue(self) -> tuple[Principal, str]:
        """Return a new principal and the Set-Cookie value that makes its browser that principal."""
        principal = _principal(self._ids.new(_PREFIX), signed_at=int(self._clock.epoch()))
        return principal, self.renew(principal)

    def renew(self, principal: Principal) -> str:
        """Return a Set-Cookie value that keeps this principal for another 30 days."""
        signed = self._signer.sign(principal.principal_id).decode("ascii")
        return set_cookie(self.cookie_name, signed, max_age_seconds=MAX_AGE_SECONDS, secure=self._secure)

    def verify(self, value: str) -> VerifiedSession:
        """Return the session of a cookie, or raise `UnauthenticatedError`."""
        if not _COOKIE.fullmatch(value):
            raise UnauthenticatedError("The session cookie is malformed.")
        try:
            body, signed_at = self._signer.unsign(value, max_age=MAX_AGE_SECONDS, return_timestamp=True)
        except BadData as error:
            raise UnauthenticatedError("The session has expired or its cookie was not made here.") from error
        age_seconds = self._clock.epoch() - signed_at.timestamp()
        principal = _principal(body.decode("ascii"), signed_at=signed_at.timestamp())
        return VerifiedSession(principal=principal, is_due=age_seconds > RENEW_AFTER_SECONDS)


class _ClockedSigner(TimestampSigner):
    def __init__(self, keys: list[str], clock: Clock) -> None:
        super().__init__(keys, salt="pratique.session.v1", sep=".", key_derivation="hmac", digest_method=hashlib.sha256)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock.epoch())


def load_secrets(path: Path) -> tuple[str, ...]:
    """Return the secrets of the file, first one first; make the file where there is none.

    Raises:
        SecretsUnavailableError: it cannot be read or made, is empty, holds a short secret, or others can read it.
    """
    try:
        if not path.exists():
            _create(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsUnavailableError(f"The session secret file {path} cannot be used: {error}.") from error
    if mode & 0o077:
        raise SecretsUnavailableError(
            f"The session secret file {path} has mode {mode:04o}: others can read it.", hint=f"chmod 600 {path}"
        )
    if not lines or any(len(line) < _MIN_SECRET_CHARACTERS for line in lines):
        raise SecretsUnavailableError(
            f"The session secret file {path} must hold secrets of at least {_MIN_SECRET_CHARACTERS} characters, "
            "one a line.",
            hint="Remove the file to have a new secret made; everybody's session ends with that.",
        )
    return tuple(lines)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link fails where the file is there by now: whoever was first decides, nobody reads half a secret.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _principal(name: str, *, signed_at: float) -> Principal:
    return Principal(
        principal_id=PrincipalId(name),
        kind=PrincipalKind.SESSION,
        name="browser",
        scopes=SESSION_SCOPES,
        tier=ANONYMOUS_TIER,
        expires_at=signed_at + MAX_AGE_SECONDS,
    )
