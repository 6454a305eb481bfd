"""When each API key was last used: the time of a file's last change, one empty file per key beside the keys file.

Noted at most once a minute per key and replica, so it costs a request nothing. Where the folder cannot be written (a
read-only mount) nothing is noted; that is said once and is no reason to refuse anybody.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pratique.core.events import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.core.clock import Clock

__all__ = ["KeyUsage", "last_used"]

_logger = get_logger("access")
_NOTE_SECONDS: Final = 60.0


class KeyUsage:
    """Notes the use of the keys of one file."""

    def __init__(self, keys_file: Path, *, clock: Clock) -> None:
        self._folder = _folder(keys_file)
        self._clock = clock
        self._noted: dict[str, float] = {}
        self._is_off = False

    def note(self, key_id: str) -> None:
        """Say that a key that exists was used now. Does not raise."""
        now = self._clock.monotonic()
        if self._is_off or now - self._noted.get(key_id, -_NOTE_SECONDS) < _NOTE_SECONDS:
            return
        self._noted[key_id] = now
        when = self._clock.epoch()
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(self._folder / key_id, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.utime(handle, (when, when))
            finally:
                os.close(handle)
        except OSError as error:
            self._is_off = True
            _logger.warning("key_usage_not_noted", folder=str(self._folder), error=str(error))


def last_used(keys_file: Path, key_id: str) -> float | None:
    """Return when a key was last used (seconds since 1970, to the minute), None where nothing is known."""
    try:
        return (_folder(keys_file) / key_id).stat().st_mtime
    except OSError:
        return None


def _folder(keys_file: Path) -> Path:
    return keys_file.with_name(f"{keys_file.name}.used")
