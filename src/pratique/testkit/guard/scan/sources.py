"""What is scanned: files below paths, staged changes, history. Each fills a scanner."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pratique.core.secrets.model import Place
from pratique.testkit.guard.scan.diff import COMMIT_MARK, Added, read_patches
from pratique.testkit.guard.scan.errors import ScanUsageError
from pratique.testkit.guard.scan.git import (
    DIFF_OPTIONS,
    ask_git,
    git_root,
    is_ignored,
    read_blob,
    require_repository,
    stream_git,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pratique.core.secrets.scanner import Scanner

__all__ = ["scan_files", "scan_history", "scan_staged"]

_MAX_BLOB: Final = 16 * 1024 * 1024
_FORMAT: Final = f"--format=format:{COMMIT_MARK.decode()}%H"


def scan_files(scanner: Scanner, paths: Iterable[Path]) -> None:
    """Scan files, and folders: in a checkout what is tracked or could be added, elsewhere everything.

    Raises:
        ScanUsageError: there is no such path.
        ScanFailedError: git cannot list a checkout.
    """
    for path in paths:
        if not path.exists():
            raise ScanUsageError(f"There is no file or folder {path}.")
        for file in _files_below(path) if path.is_dir() else [path]:
            _scan_file(scanner, file)


def _files_below(folder: Path) -> Iterator[Path]:
    """List a folder's files; other checkouts below it (submodules) by their own rules. Links are not followed.

    What git ignores is left out of a checkout, but not where it was named itself.
    """
    if git_root(folder) is None or is_ignored(folder):
        for top, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name != ".git"]
            yield from (Path(top, name) for name in names)
        return
    listed = ask_git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in dict.fromkeys(listed.split(b"\0")):
        file = folder / os.fsdecode(name)
        if name and file.is_dir() and not file.is_symlink():
            if (file / ".git").exists():
                yield from _files_below(file)
        elif name:
            yield file


def _scan_file(scanner: Scanner, file: Path) -> None:
    try:
        # Links lead out of the tree, or in a circle; pipes and devices have no end.
        if not stat.S_ISREG(file.lstat().st_mode):
            return
        with file.open("rb") as stream:
            scanner.scan_stream(stream, Place(path=str(file)))
    except FileNotFoundError:
        return  # listed by git, and removed in the working tree
    except OSError as error:
        scanner.report.problems.append(f"{file} cannot be read: {error.strerror}")


def scan_staged(scanner: Scanner, folder: Path) -> None:
    """Scan the lines that the next commit would add, as the index has them.

    Raises:
        ScanFailedError: this is no checkout.
    """
    _scan_patches(scanner, folder, "diff", "--cached", "--patch", *DIFF_OPTIONS)


def scan_history(scanner: Scanner, folder: Path, revisions: str = "") -> None:
    """Scan every line that a commit added: of a range, or of everything that any reference leads to.

    Raises:
        ScanUsageError: the range means nothing.
        ScanFailedError: this is no checkout.
    """
    if revisions.startswith("-"):
        raise ScanUsageError(f"'{revisions}' is no range of revisions.", hint="Expected for example: HEAD~10..HEAD.")
    which = (revisions,) if revisions else ("--all",)
    shape = (_FORMAT, "--patch", "--diff-merges=dense-combined", "--reverse", *DIFF_OPTIONS)
    _scan_patches(scanner, folder, "log", *shape, *which, "--")


def _scan_patches(scanner: Scanner, folder: Path, *words: str) -> None:
    require_repository(folder)
    with stream_git(folder, *words) as stream:
        for part in read_patches(stream):
            if isinstance(part, Added):
                scanner.report.num_texts += 1
                scanner.scan(part.text.decode("latin-1"), part.place, first_line=part.first_line)
            else:
                content = read_blob(folder, part.blob, _MAX_BLOB)
                scanner.scan_stream(io.BytesIO(content), part.place)
