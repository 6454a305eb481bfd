"""The digest of a folder: of the sorted list of its paths, modes and contents, so of nothing else."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from pratique.release.build.layout import digest_of_file
from pratique.release.values import Digest

__all__ = ["tree_digest"]


def tree_digest(folder: Path) -> Digest:
    """Return the digest of what a folder holds. One line for each entry: mode, content's digest or link, path."""
    lines = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = f"link {path.readlink()}"
        elif stat.S_ISDIR(mode):
            what = "folder"
        else:
            what = f"{(mode & 0o111 and 'program') or 'file'} {digest_of_file(path)}"
        lines.append(f"{what} {path.relative_to(folder)}\n")
    return Digest("sha256:" + hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest())
