"""The commit that is built: what it is called, when it was made, and its files as it has them.

The build context is the commit's tree, not the work tree: what git ignores is not in it, and every file has one of the
two modes that git knows.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from pratique.release.build.errors import BuildRequestError, DirtyTreeError
from pratique.release.build.programs import Program, run
from pratique.release.errors import ToolFailedError

__all__ = ["GIT", "Source", "copy_plain", "export_tree", "read_source", "without_credentials"]

GIT: Final = Program("git", "git")
_SECONDS: Final = 120.0
_SHOWN: Final = 10
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image's files come from."""

    folder: Path
    repository: str
    """The address of the repository, without credentials; empty where none is known."""
    commit: str
    committed_at: int
    """Seconds since 1970."""
    version: str
    """For people: `git describe`."""
    changes: tuple[str, ...] = ()
    """What differs from the commit; not empty where that was allowed."""

    @property
    def revision(self) -> str:
        """The commit, marked where something differs from it: the image's tag."""
        return f"{self.commit}-dirty" if self.changes else self.commit


def read_source(folder: Path, *, allow_dirty: bool, repository: str = "") -> Source:
    """Ask git about a folder of a checkout.

    Raises:
        DirtyTreeError: something is not committed, and that was not allowed.
        BuildRequestError: this is no checkout, or it has no commit.
    """
    try:
        commit, committed_at = _git(folder, "log", "-1", "--format=%H %ct").split()
        changes = tuple(_git(folder, "status", "--porcelain", "--untracked-files=normal").splitlines())
        version = _git(folder, "describe", "--tags", "--always", "--abbrev=12")
        remote = repository or _git(folder, "config", "--default", "", "--get", "remote.origin.url")
    except (ToolFailedError, ValueError) as error:
        raise BuildRequestError(f"{folder} is no git checkout with a commit: {error}") from error
    if not _COMMIT.fullmatch(commit):
        raise BuildRequestError(f"expected a commit of {folder}, got '{commit[:80]}'")
    if changes and not allow_dirty:
        listed = "\n".join(f"  {change}" for change in changes[:_SHOWN])
        more = f"\n  … and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise DirtyTreeError(
            f"the work tree of {folder} differs from {commit[:12]}:\n{listed}{more}",
            hint="Commit first; --allow-dirty builds it all the same, and the image says so.",
        )
    return Source(folder, without_credentials(remote), commit, int(committed_at), version, changes)


def export_tree(source: Source, into: Path) -> None:
    """Write the files to build into an empty folder."""
    into.mkdir(parents=True, exist_ok=True)
    if source.changes:
        listed = run(
            GIT,
            ["-C", str(source.folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"],
            timeout_seconds=_SECONDS,
        )
        for name in map(os.fsdecode, filter(None, listed.split(b"\0"))):
            if os.path.lexists(source.folder / name):  # removed and not committed: not there
                copy_plain(source.folder / name, into / name)
        return
    archive = into.with_name(into.name + ".tar")
    prefix = _git(source.folder, "rev-parse", "--show-prefix")
    top = _git(source.folder, "rev-parse", "--show-toplevel")
    words = ["-C", top, "-c", "tar.umask=0022", "archive", "--format=tar", "--output", str(archive)]
    run(GIT, [*words, f"{source.commit}:{prefix}" if prefix else source.commit], timeout_seconds=_SECONDS)
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    archive.unlink()


def copy_plain(source: Path, target: Path) -> None:
    """Copy a file, a link or a whole folder with the modes that git knows: 0755 what can be executed, 0644 the rest."""
    mode = source.lstat().st_mode
    target.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(mode):
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
        for child in sorted(source.iterdir()):
            copy_plain(child, target / child.name)
    elif stat.S_ISREG(mode):
        shutil.copyfile(source, target)
        target.chmod(0o755 if mode & 0o100 else 0o644)


def without_credentials(url: str) -> str:
    """Return an address without user and password; `git@host:path` has no password and stays."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _git(folder: Path, *words: str) -> str:
    # The system's and the user's settings may change what git prints.
    environment = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    said = run(GIT, ["-C", str(folder), *words], timeout_seconds=_SECONDS, environment=environment)
    return said.decode("utf-8", "surrogateescape").strip("\n")
