"""Failed loads of a model in a row, counted across processes in a small file beside it.

A process that cannot load its model ends and is started again: it cannot know that it is the third. The file can. The
counting never makes a failure worse: whatever is wrong with the file is logged, and the count begins again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pratique.core.events import get_logger
from pratique.inference.artifacts._files import opened, printable
from pratique.inference.errors import ArtifactError

__all__ = ["SYSTEMIC", "count_failures", "default_failures_file", "record_failure", "record_success"]

SYSTEMIC: Final = 3
"""So many in a row are no accident of one start: they raise the alarm `repeated_load_failure`."""
_MAX_KEYS: Final = 64
_MAX_KEY_CHARS: Final = 512
_MAX_REASON_CHARS: Final = 500
_MAX_FILE_BYTES: Final = 1 << 18
_LOCK_SECONDS: Final = 2.0
_LOCK_POLL_SECONDS: Final = 0.01
_LOG = get_logger("artifacts")


class _Failing(msgspec.Struct, frozen=True):
    in_a_row: Annotated[int, msgspec.Meta(ge=1, lt=1 << 53)]
    reason: str


class _File(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    failing: dict[str, _Failing]


def default_failures_file(folder: Path) -> Path:
    """Return where the failures of the model in `folder` are counted unless told otherwise: beside the folder."""
    return folder.parent / f".{folder.name}.failures.json"


def record_failure(path: Path, key: str, reason: str) -> int:
    """Count one more failed load of the artifact `key` (its manifest's digest, or its folder).

    Returns:
        How many have failed in a row, this one included; 1 where the file cannot be read or written.
    """

    def add(failing: dict[str, _Failing]) -> None:
        before = failing.pop(key[:_MAX_KEY_CHARS], None)
        in_a_row = 1 + (before.in_a_row if before else 0)
        failing[key[:_MAX_KEY_CHARS]] = _Failing(in_a_row, printable(reason)[:_MAX_REASON_CHARS])

    failing = _change(path, add)
    return failing[key[:_MAX_KEY_CHARS]].in_a_row if failing else 1


def record_success(path: Path, key: str) -> None:
    """Forget the failures of the artifact `key`: it was loaded."""
    if path.exists():
        _change(path, lambda failing: failing.pop(key[:_MAX_KEY_CHARS], None))


def count_failures(path: Path, key: str) -> int:
    """Return how many loads of the artifact `key` have failed in a row; 0 where nothing is known."""
    found = _read(path).get(key[:_MAX_KEY_CHARS])
    return found.in_a_row if found else 0


def _change(path: Path, change: Callable[[dict[str, _Failing]], object]) -> dict[str, _Failing]:
    """Change the file as one step of its own among processes; return what it says then, nothing where that failed."""
    try:
        with _locked(path):
            failing = _read(path)
            before = dict(failing)
            change(failing)
            for oldest in list(failing)[:-_MAX_KEYS]:
                del failing[oldest]
            if failing != before:
                _write(path, failing)
            return failing
    except OSError as error:
        _LOG.warning("load_failures_not_counted", file=str(path), error=str(error))
        return {}


def _read(path: Path) -> dict[str, _Failing]:
    try:
        with opened(path.parent) as folder:
            raw = folder.read(path.name, _MAX_FILE_BYTES)
        return msgspec.json.decode(raw, type=_File).failing
    except FileNotFoundError:
        return {}
    except (ArtifactError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _LOG.warning("load_failures_forgotten", file=str(path), error=str(error))
        return {}


def _write(path: Path, failing: dict[str, _Failing]) -> None:
    # Beside its target and moved there whole: a reader sees the file before or after, and a killed writer neither.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(_File(failing=failing))) + b"\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock.

    Raises:
        OSError: it cannot be made, or another process has held it for too long.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
