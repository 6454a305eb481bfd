"""Git, asked: which files there are, what is staged, what the history added. Reads; never writes.

A repository may be hostile: what its configuration would run (external diffs, text conversion, a file system monitor,
a pager, signature checks) is switched off, and paths are taken as bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import subprocess
import tempfile
from typing import TYPE_CHECKING, Final

from pratique.core.git import SAFE_OPTIONS
from pratique.testkit.guard.scan.errors import ScanFailedError, ScanUsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import IO

    from _typeshed import WriteableBuffer

__all__ = ["DIFF_OPTIONS", "ask_git", "git_root", "is_ignored", "read_blob", "require_repository", "stream_git"]

_SAFE: Final = (*SAFE_OPTIONS, "-c", "core.quotePath=true")
DIFF_OPTIONS: Final = (
    "--unified=0", "--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--find-renames",
    "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--inter-hunk-context=0",
)  # fmt: skip
_SECONDS: Final = 60.0
_SILENCE_SECONDS: Final = 300.0
"""So long a stream may say nothing: a history of a million commits is read before its first is told."""
_MAX_SAID: Final = 4096
_BUFFER_BYTES: Final = 256 * 1024


def _command(words: Sequence[str]) -> list[str]:
    return ["git", *_SAFE, *words]


def ask_git(folder: Path, *words: str) -> bytes:
    """Return what a quick command says.

    Raises:
        ScanFailedError: it failed, or there is no git.
    """
    try:
        ran = subprocess.run(_command(words), cwd=folder, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603 - fixed words
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScanFailedError(f"git {words[0]} could not be run in {folder}: {error}.") from error
    if ran.returncode:
        raise ScanFailedError(f"git {words[0]} failed in {folder}: {_text(ran.stderr)}")
    return ran.stdout


def git_root(folder: Path) -> Path | None:
    """Return the top of the checkout that a folder is in, None where it is in none."""
    try:
        top = ask_git(folder, "rev-parse", "--show-toplevel")
    except ScanFailedError:
        return None
    return type(folder)(os.fsdecode(top.rstrip(b"\n")))


def is_ignored(folder: Path) -> bool:
    """Whether git ignores a folder of a checkout."""
    try:
        return bool(ask_git(folder, "check-ignore", "--no-index", "--", str(folder.resolve())))
    except ScanFailedError:
        return False  # that is how git says no


def require_repository(folder: Path) -> None:
    """Go on only inside of a repository.

    Raises:
        ScanFailedError: this is none, or git will not read it.
    """
    try:
        ask_git(folder, "rev-parse", "--git-dir")
    except ScanFailedError as error:
        raise ScanFailedError(
            f"{folder.resolve()} is no checkout of git, or git will not read it.",
            hint=f"Run it inside of one; without --staged and --history it scans files. What git says: {error}",
        ) from error


class _Patient(io.RawIOBase):
    """A pipe that fails where nothing comes out of it for too long."""

    def __init__(self, pipe: IO[bytes], what: str) -> None:
        super().__init__()
        self._fd, self._what, self._poll = pipe.fileno(), what, select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._poll.poll(_SILENCE_SECONDS * 1000):
            raise ScanFailedError(f"{self._what} said nothing for {_SILENCE_SECONDS:g} s.")
        return os.readv(self._fd, [buffer])


@contextlib.contextmanager
def stream_git(folder: Path, *words: str) -> Iterator[IO[bytes]]:
    """Read a command's output as it comes, for as long as some comes.

    Raises:
        ScanFailedError: it failed, or stands still.
        ScanUsageError: it does not know the revisions it was given.
    """
    what = f"git {words[0]}"
    # What it says beside its output goes to a file: nobody reads it before the end, and a pipe would fill up.
    with tempfile.TemporaryFile() as aside:
        try:
            process = subprocess.Popen(_command(words), cwd=folder, stdout=subprocess.PIPE, stderr=aside)  # noqa: S603 - fixed words
        except OSError as error:
            raise ScanFailedError(f"{what} could not be run in {folder}: {error}.") from error
        assert process.stdout is not None  # noqa: S101 - narrows the type
        with process:
            try:
                yield io.BufferedReader(_Patient(process.stdout, f"{what} in {folder}"), _BUFFER_BYTES)
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise ScanFailedError(f"{what} in {folder} does not end: {error}.") from error
            except BaseException:
                process.kill()
                raise
        aside.seek(max(0, aside.seek(0, os.SEEK_END) - _MAX_SAID))
        said = aside.read()
    if process.returncode:
        kind = ScanUsageError if b"revision" in said or b"bad object" in said else ScanFailedError
        raise kind(f"{what} failed in {folder}: {_text(said)}")


def read_blob(folder: Path, name: str, limit: int) -> bytes:
    """Return the beginning of an object."""
    with stream_git(folder, "cat-file", "blob", name) as stream:
        content = stream.read(limit)
        while stream.read(1024 * 1024):
            pass
    return content


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()[-400:]
