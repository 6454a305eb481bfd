"""What the mirror serves right now: the approved file and the state, read anew when they change.

Taking a package back is one commit: the next request no longer gets it. An approved file that cannot be read serves
nothing, rather than what it once said. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from pratique.core.events import get_logger
from pratique.release.lock.settings import LockSettings
from pratique.release.lock.verifying import entries_of
from pratique.release.mirror.approved import MAX_BYTES, Approved, parse_approved
from pratique.release.mirror.deciding import Catalogue
from pratique.release.mirror.errors import ApprovedFileError, HashDiffersError, MirrorStoreError
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.mirror.store import MirrorStore
from pratique.release.values import Digest

__all__ = ["Shelf", "known_names", "load_approved", "read_approved"]

_logger = get_logger("mirror")
_NOTHING: Final = (-1, -1, -1)


def load_approved(path: Path) -> Approved:
    """Read the approved file.

    Raises:
        ApprovedFileError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as opened:
            body = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ApprovedFileError(f"{path} cannot be read: {error}") from error
    return read_approved(body)


def read_approved(body: bytes) -> Approved:
    """Read what stands in an approved file.

    Raises:
        ApprovedFileError: it is too large, or none.
    """
    if len(body) > MAX_BYTES:
        raise ApprovedFileError(f"the file of approved packages has more than {MAX_BYTES} bytes")
    try:
        return parse_approved(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ApprovedFileError(f"the file of approved packages is no UTF-8: {error}") from error


def known_names(locks: Iterable[Path]) -> frozenset[str]:
    """Return the names in lock files.

    Raises:
        CallerError: one of them is not there.
    """
    return frozenset(entry.name for lock in locks for entry in entries_of(lock, LockSettings()))


class Shelf:
    """The catalogue, and the files behind it."""

    def __init__(self, settings: MirrorSettings) -> None:
        self._settings = settings
        self._store = MirrorStore(settings.store)
        self._known = known_names(settings.locks)
        self._lock = threading.Lock()
        self._tampered: dict[Digest, str] = {}
        self._prints: tuple[tuple[int, int, int], ...] = ()
        self._catalogue = Catalogue(Approved(), self._store.read_state())

    def catalogue(self) -> Catalogue:
        """Return what is served now.

        Raises:
            ApprovedFileError, MirrorStoreError: that cannot be said, and nothing is served.
        """
        with self._lock:
            prints = (_print_of(self._settings.approved), _print_of(self._store.state_file))
            if prints != self._prints:
                self._prints = ()
                self._catalogue = Catalogue(
                    load_approved(self._settings.approved),
                    self._store.read_state(),
                    known=self._known,
                    how_to_ask=self._settings.how_to_ask,
                )
                self._prints = prints
                self._tampered.clear()  # after a sync; what is still wrong is found again when it is opened
            # A copy of what is tampered with: it grows while others read.
            found = self._catalogue
            return Catalogue(found.approved, found.state, dict(self._tampered), found.known, found.how_to_ask)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a file that was hashed since it last changed.

        Raises:
            HashDiffersError: it is not what it was; told, and remembered.
            MirrorStoreError: it is gone.
        """
        try:
            opened = self._store.open(digest)
        except HashDiffersError as error:
            self._alert(digest, error.message)
            raise
        with self._lock:
            self._tampered.pop(digest, None)
        return opened

    def recheck(self, name: str | None = None) -> int:
        """Hash what is served again, of one project or of all; tell what is not what it was, and return how much."""
        catalogue = self.catalogue()
        stored = catalogue.state.files
        digests = [file.digest for file in catalogue.approved.files(name) if file.digest in stored]
        metadata = [found for digest in digests if (found := stored[digest].metadata) is not None]
        bad = list(self._store.recheck(dict.fromkeys([*digests, *metadata])))
        for digest, reason in bad:
            self._alert(digest, reason)
        return len(bad)

    def recheck_safely(self) -> None:
        """Do so in the background, where what goes wrong is told, and no reason to stop."""
        try:
            num_bad = self.recheck()
        except (ApprovedFileError, MirrorStoreError) as error:
            _logger.error("mirror_recheck_failed", reason=str(error))  # noqa: TRY400 - the reason says it
        else:
            _logger.info("mirror_rechecked", num_bad=num_bad)

    def _alert(self, digest: Digest, reason: str) -> None:
        _logger.error("mirror_file_tampered", digest=digest, reason=reason)
        with self._lock:
            self._tampered[digest] = reason


def _print_of(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:  # said by whoever reads it
        return _NOTHING
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
