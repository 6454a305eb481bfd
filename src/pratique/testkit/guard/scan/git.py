"""Git, asked: which files there are, what is staged, what the history added. Reads; never writes.

A repository may be hostile: what its configuration would run (external diffs, text conversion, a file system monitor,
a pager, signature checks) is switched off, and paths are taken as bytes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, Final

from pratique.testkit.guard.scan.model import ScanFailedError, ScanUsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import IO

__all__ = ["DIFF_OPTIONS", "ask_git", "git_root", "read_blob", "stream_git"]

_SAFE: Final = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=true", "-c", "log.showSignature=false")
DIFF_OPTIONS: Final = (
    "--unified=0", "--no-color", "--no-ext-diff", "--no-textconv", "--full-index", "--find-renames",
    "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--inter-hunk-context=0",
)  # fmt: skip
_SECONDS: Final = 60.0


def _command(words: Sequence[str]) -> list[str]:
    return ["git", "--no-pager", *_SAFE, *words]


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


@contextlib.contextmanager
def stream_git(folder: Path, *words: str) -> Iterator[IO[bytes]]:
    """Read a command's output as it comes. It has no deadline: it reads local files, and ends when they end.

    Raises:
        ScanFailedError: it failed.
        ScanUsageError: it does not know the revisions it was given.
    """
    try:
        process = subprocess.Popen(_command(words), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - fixed words
    except OSError as error:
        raise ScanFailedError(f"git {words[0]} could not be run in {folder}: {error}.") from error
    assert process.stdout is not None  # noqa: S101 - narrows the type
    assert process.stderr is not None  # noqa: S101 - narrows the type
    with process:
        try:
            yield process.stdout
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read(_MAX_SAID)
        process.wait(_SECONDS)
    if process.returncode:
        kind = ScanUsageError if b"revision" in said or b"bad object" in said else ScanFailedError
        raise kind(f"git {words[0]} failed in {folder}: {_text(said)}")


_MAX_SAID: Final = 4096


def read_blob(folder: Path, name: str, limit: int) -> bytes:
    """Return the beginning of an object."""
    with stream_git(folder, "cat-file", "blob", name) as stream:
        content = stream.read(limit)
        while stream.read(1024 * 1024):
            pass
    return content


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip()[:400]
