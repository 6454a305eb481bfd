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

from pratique.core.git import SAFE_OPTIONS
from pratique.release.build.errors import BuildRequestError, DirtyTreeError
from pratique.release.build.programs import Program, run
from pratique.release.errors import ToolFailedError

__all__ = ["GIT", "Source", "authors_of", "copy_plain", "export_tree", "read_source", "without_credentials"]

GIT: Final = Program("git", "git")
_SECONDS: Final = 120.0
_SHOWN: Final = 10
_ADDRESS: Final = re.compile(r"<([^<>]*)>\s*\Z")
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
    authors: tuple[str, ...] = ()
    """The e-mail addresses of who wrote what is new in the commit, see `authors_of`."""

    @property
    def revision(self) -> str:
        """The commit, marked where something differs from it: the image's tag."""
        return f"{self.commit}-dirty" if self.changes else self.commit


def read_source(folder: Path, *, allow_dirty: bool, repository: str = "", since: str = "") -> Source:
    """Ask git about a folder of a checkout.

    Args:
        folder: of the checkout, or in it.
        allow_dirty: whether it may differ from its commit.
        repository: its address; empty: as git's remote says.
        since: an earlier commit; who wrote something after it counts as an author too.

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
    authors = authors_of(folder, commit, since=since)
    return Source(folder, without_credentials(remote), commit, int(committed_at), version, changes, authors)


def authors_of(folder: Path, commit: str, *, since: str = "") -> tuple[str, ...]:
    """Return the e-mail addresses of who wrote what a commit brings: authors, co-authors and committers.

    Of a commit, that is the commit; of a merge, all that it merges into its first parent; and everything after `since`.
    The addresses are those in the commits: a `.mailmap` is part of what is to be judged, and is not asked.

    Raises:
        BuildRequestError: git lacks what would have to be looked at, as a shallow clone does.
    """
    try:
        header = _git(folder, "cat-file", "commit", commit).partition("\n\n")[0]
        parents = re.findall(r"^parent ([0-9a-f]+)$", header, flags=re.MULTILINE)
        is_shallow = _git(folder, "rev-parse", "--is-shallow-repository") == "true"
        if is_shallow and (len(parents) > 1 or since):
            raise BuildRequestError(
                f"who wrote what {commit[:12]} brings cannot be told: {folder} is a shallow clone",
                hint="Fetch the history: git fetch --unshallow; or fetch-depth: 0 in GitHub's checkout.",
            )
        found = _emails(folder, "-1", commit)
        if len(parents) > 1:
            found |= _emails(folder, commit, f"^{parents[0]}")
        if since:
            found |= _emails(folder, commit, "^" + _git(folder, "rev-parse", "--verify", f"{since}^{{commit}}"))
    except ToolFailedError as error:
        raise BuildRequestError(f"who wrote what {commit[:12]} brings cannot be told: {error}") from error
    return tuple(sorted(found))


def _emails(folder: Path, *revisions: str) -> set[str]:
    trailers = "%(trailers:key=Co-authored-by,valueonly=true,separator=%x00)"
    said = _git(folder, "log", "--no-show-signature", f"--format=%ae%x00%ce%x00{trailers}", *revisions, "--")
    names = (one.strip() for one in re.split(r"[\0\n]", said))
    addresses = ((_ADDRESS.search(name) or [name, name])[1].strip() for name in names)
    return {one for one in addresses if one}


def export_tree(source: Source, into: Path) -> None:
    """Write the files to build into an empty folder.

    Raises:
        BuildRequestError: the commit holds a link that leads out of it.
    """
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
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(into, filter="data")
    except tarfile.TarError as error:  # a link to what is not in the commit, for one
        raise BuildRequestError(f"the commit {source.commit[:12]} holds what cannot be written: {error}") from error
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
    said = run(GIT, [*SAFE_OPTIONS, "-C", str(folder), *words], timeout_seconds=_SECONDS, environment=environment)
    return said.decode("utf-8", "surrogateescape").strip("\n")
