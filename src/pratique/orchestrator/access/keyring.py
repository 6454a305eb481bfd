"""Changes to the API keys file: under a lock, by replacing the whole file, so that readers never see half of one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from typing import TYPE_CHECKING, Final

import msgspec

from pratique.core.clock import Clock, SystemClock
from pratique.core.errors import CallerError
from pratique.core.ids import IdSource, RandomIds
from pratique.orchestrator.access.errors import KeysUnavailableError
from pratique.orchestrator.access.keys import ApiKey, ApiKeys, hash_key, mint_key, parse_keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pratique.orchestrator.access.scopes import Scope

__all__ = ["ApiKeyring", "UnknownKeyError"]

_MAX_NAME_CHARACTERS: Final = 100
_MAX_TIER_CHARACTERS: Final = 64
_LOCK_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02


class UnknownKeyError(CallerError):
    """No key of that id is in the file."""

    code = "unknown_key"


class ApiKeyring:
    """One keys file, to be changed."""

    def __init__(self, path: Path, *, clock: Clock | None = None, ids: IdSource | None = None) -> None:
        self._path = path
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds(self._clock)

    def entries(self) -> tuple[ApiKey, ...]:
        """Return all keys, revoked ones included; raise `KeysUnavailableError` where there is no readable file."""
        return self._load().keys

    def create(
        self, name: str, *, scopes: Collection[Scope] = (), expires: float | None = None, tier: str = ""
    ) -> tuple[ApiKey, str]:
        """Add a key and return it with its text, which is stored nowhere. Makes the file where there is none.

        Args:
            name: whose or what for.
            scopes: what it may do; none: chat and openai.
            expires: when it ends, in seconds since 1970.
            tier: which of the configured limits apply to it.

        Raises:
            CallerError: the name is empty, too long or not one line, or the end is past.
            KeysUnavailableError: the file is malformed or cannot be written.
        """
        if not 1 <= len(name) <= _MAX_NAME_CHARACTERS or not name.isprintable():
            raise CallerError(f"A key's name has 1 to {_MAX_NAME_CHARACTERS} printable characters.")
        if len(tier) > _MAX_TIER_CHARACTERS:
            raise CallerError(f"A tier's name has at most {_MAX_TIER_CHARACTERS} characters.")
        entry, text = self._minted(name, expires)
        ordered = tuple(sorted(set(scopes), key=lambda scope: scope.value))
        entry = msgspec.structs.replace(entry, scopes=ordered, tier=tier)
        with self._locked():
            keys = self._load() if self._path.exists() else ApiKeys()
            self._replace(msgspec.structs.replace(keys, keys=(*keys.keys, entry)))
        return entry, text

    def rotate(self, key_id: str, *, overlap_seconds: float, expires: float | None = None) -> tuple[ApiKey, str]:
        """Add a key that is what another one is, which ends after the overlap; return the new one and its text.

        The new key has the name, the scopes, the tier and the conversations of the old one. Its life is as long as the
        old one's was, unless `expires` (seconds since 1970) says otherwise.

        Raises:
            UnknownKeyError: no such id.
            CallerError: that key has ended, or the new one would have.
            KeysUnavailableError: the file is missing, malformed or cannot be written.
        """
        with self._locked():
            keys = self._load()
            old = self._find(keys, key_id)
            now = self._clock.epoch()
            if not old.holds(now):
                raise CallerError(
                    f"The key '{key_id}' has ended; there is nothing to rotate.", hint="Create a new one."
                )
            if expires is None and old.expires is not None:
                expires = now + (old.expires - old.created)
            entry, text = self._minted(old.name, expires)
            entry = msgspec.structs.replace(entry, scopes=old.scopes, tier=old.tier, principal=old.owner)
            ends = now + max(0.0, overlap_seconds)
            ending = msgspec.structs.replace(old, expires=min(ends, old.expires or ends))
            self._replace(msgspec.structs.replace(keys, keys=(*_with(keys, ending), entry)))
        return entry, text

    def revoke(self, key_id: str) -> ApiKey:
        """Refuse a key from now on and return its entry; a key that was revoked stays so since then.

        Raises:
            UnknownKeyError: no such id.
            KeysUnavailableError: the file is missing, malformed or cannot be written.
        """
        with self._locked():
            keys = self._load()
            entry = self._find(keys, key_id)
            if entry.revoked is not None:
                return entry
            revoked = msgspec.structs.replace(entry, revoked=self._clock.epoch())
            self._replace(msgspec.structs.replace(keys, keys=_with(keys, revoked)))
        return revoked

    def _find(self, keys: ApiKeys, key_id: str) -> ApiKey:
        entry = next((one for one in keys.keys if one.id == key_id), None)
        if entry is None:
            raise UnknownKeyError(f"{self._path} has no key '{key_id}'.", hint="See: pratique keys list --file FILE.")
        return entry

    def _minted(self, name: str, expires: float | None) -> tuple[ApiKey, str]:
        now = self._clock.epoch()
        if expires is not None and expires <= now:
            raise CallerError("A key must end later than now.")
        text = mint_key()
        return ApiKey(id=self._ids.new("key"), name=name, sha256=hash_key(text), created=now, expires=expires), text

    def _load(self) -> ApiKeys:
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise KeysUnavailableError(f"The API keys file {self._path} cannot be read: {error}.") from error
        return parse_keys(text, origin=str(self._path))

    def _replace(self, keys: ApiKeys) -> None:
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold a lock beside the file: the file itself is replaced."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._wait_for_lock(handle)
                yield
            finally:
                os.close(handle)
        except OSError as error:
            raise KeysUnavailableError(f"The API keys file {self._path} cannot be written: {error}.") from error

    def _wait_for_lock(self, handle: int) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise KeysUnavailableError(f"Another process has been changing {self._path} for long.") from None
                time.sleep(_POLL_SECONDS)
            else:
                return


def _with(keys: ApiKeys, changed: ApiKey) -> tuple[ApiKey, ...]:
    return tuple(changed if one.id == changed.id else one for one in keys.keys)
