"""API keys: shown once, stored as SHA-256 only, in one JSON file that the command line writes and replicas read.

A key is `pk_` and 43 characters that carry 256 random bits, which is why a plain hash is enough at rest. The file is
looked at again at most once a second and read when it changed, so a revoked key stops working within that second.
A file that is missing or malformed refuses every key until it is whole again: stale keys are not trusted.

The file grows by fields that are left out where they say nothing, so an older replica reads it as long as no key uses
them. A key without scopes, as all were once, may chat and use /v1; none may administrate that does not say so.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pratique.core.clock import Clock, SystemClock
from pratique.core.ids import PrincipalId
from pratique.orchestrator.access.errors import KeysUnavailableError, UnauthenticatedError
from pratique.orchestrator.access.principal import Principal, PrincipalKind
from pratique.orchestrator.access.scopes import KEY_SCOPES, Scope
from pratique.orchestrator.access.usage import KeyUsage

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ApiKey", "ApiKeyFile", "ApiKeys", "hash_key", "mint_key", "parse_keys"]

_KEY: Final = re.compile(r"pk_[A-Za-z0-9_-]{27,128}")
_LOOK_AGAIN_SECONDS: Final = 1.0
_MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_REFUSED: Final = "The API key is unknown, expired or revoked."


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key as stored. Times in seconds since 1970 UTC."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,64}$")]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created: float
    revoked: float | None = None
    expires: float | None = None
    scopes: tuple[Scope, ...] = ()
    """None: as before there were scopes, chat and openai."""
    principal: Annotated[str, msgspec.Meta(pattern="^([a-z0-9_]{1,64})?$")] = ""
    """Whose conversations it opens, where that is not its own id: a rotated key keeps its predecessor's."""
    tier: Annotated[str, msgspec.Meta(max_length=64)] = ""
    """The limits that apply to it, by their name in the settings."""

    @property
    def owner(self) -> PrincipalId:
        return PrincipalId(self.principal or self.id)

    @property
    def granted(self) -> frozenset[Scope]:
        return frozenset(self.scopes) or KEY_SCOPES

    def holds(self, now: float) -> bool:
        """Whether it is accepted at that time (seconds since 1970)."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class ApiKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    schema_version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    keys: tuple[ApiKey, ...] = ()


def mint_key() -> str:
    """Return a new key with 256 random bits."""
    return f"pk_{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode("ascii")).hexdigest()


def parse_keys(text: bytes, *, origin: str) -> ApiKeys:
    """Return the keys of a file's content, or raise `KeysUnavailableError`."""
    try:
        keys = msgspec.json.decode(text, type=ApiKeys)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise KeysUnavailableError(
            f"The API keys file {origin} is malformed: {error}.",
            hint="Restore it, or remove it and create keys anew: pratique keys create --name NAME --file FILE.",
        ) from error
    if len({key.id for key in keys.keys}) != len(keys.keys):
        raise KeysUnavailableError(f"The API keys file {origin} names an id twice.")
    return keys


class ApiKeyFile:
    """Verifies keys against the file. Reads a small local file in place; safe to call from the event loop."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._looked_at: float | None = None
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}
        """By id."""
        self._known: dict[str, tuple[list[ApiKey], Principal]] = {}
        """Those that were shown since the file was read, by their hash."""
        self._error: KeysUnavailableError | None = None
        self._usage = KeyUsage(path, clock=self._clock)

    def verify(self, key: str) -> Principal:
        """Return the key's principal.

        Raises:
            UnauthenticatedError: malformed, unknown, expired or revoked.
            KeysUnavailableError: the file cannot be read or is malformed.
        """
        keys = self._current()
        if not _KEY.fullmatch(key):
            raise UnauthenticatedError(_REFUSED)
        given = hash_key(key)
        known = self._known.get(given)
        if known is None:
            # Every entry is compared, whichever matches: the time says nothing about which keys there are.
            found = [entry for entry in keys.values() if hmac.compare_digest(entry.sha256, given)]
            if not found:
                raise UnauthenticatedError(_REFUSED)
            known = self._known[given] = found, _principal_of(found[0])
        found, principal = known
        now = self._clock.epoch()
        for entry in found:
            if not entry.holds(now):
                raise UnauthenticatedError(_REFUSED)
        self._usage.note(principal.key_id)
        return principal

    def verify_holds(self, principal: Principal) -> None:
        """See that the key which a principal came with still holds, for all that it was let in for.

        Raises:
            UnauthenticatedError: it is expired, revoked or gone, or has lost a scope.
            KeysUnavailableError: as `verify` does.
        """
        entry = self._current().get(principal.key_id)
        if entry is None or not entry.holds(self._clock.epoch()) or not principal.scopes <= entry.granted:
            raise UnauthenticatedError(_REFUSED)

    def _current(self) -> dict[str, ApiKey]:
        self._refresh()
        if self._error is not None:
            raise KeysUnavailableError(self._error.message, hint=self._error.hint)
        return self._keys

    def _refresh(self) -> None:
        now = self._clock.monotonic()
        if self._looked_at is not None and now - self._looked_at < _LOOK_AGAIN_SECONDS:
            return
        self._looked_at = now
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._keys, self._error = {key.id: key for key in _read(self._path).keys}, None
                self._known, self._seen = {}, seen
        except OSError as error:
            self._refuse(KeysUnavailableError(f"The API keys file {self._path} cannot be read: {error}."))
        except KeysUnavailableError as error:
            self._refuse(error)

    def _refuse(self, error: KeysUnavailableError) -> None:
        self._keys, self._known, self._error, self._seen = {}, {}, error, None


def _principal_of(entry: ApiKey) -> Principal:
    return Principal(
        principal_id=entry.owner,
        kind=PrincipalKind.API_KEY,
        name=entry.name,
        scopes=entry.granted,
        tier=entry.tier,
        expires_at=entry.expires,
        key_id=entry.id,
    )


def _read(path: Path) -> ApiKeys:
    with path.open("rb") as file:
        text = file.read(_MAX_FILE_BYTES + 1)
    if len(text) > _MAX_FILE_BYTES:
        raise KeysUnavailableError(f"The API keys file {path} is larger than {_MAX_FILE_BYTES} bytes.")
    return parse_keys(text, origin=str(path))
