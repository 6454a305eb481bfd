"""What should not be among the files of an image that runs. Pure; looks at the file system as it ends up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pratique.release.evidence.hygiene.tree import FileTree, Inode
from pratique.release.predicates import Finding

__all__ = ["FILE_RULES", "findings_in_files"]

FILE_RULES: Final = (
    "device-file",
    "left-over",
    "package-cache",
    "package-installer",
    "set-id",
    "toolchain",
    "world-writable",
)
_SET_ID: Final = 0o6000
_STICKY: Final = 0o1000
_OTHERS_WRITE: Final = 0o002
_BIN: Final = r"(?:usr/|usr/local/|opt/[^/]+/)?s?bin/"
_TOOLS: Final = re.compile(
    _BIN + r"(?:[a-z0-9_]+-linux-gnu(?:x32|eabihf)?-)?"
    r"(?:gcc|g\+\+|cc|c\+\+|cpp|clang|clang\+\+|ld|as|make|cmake|ninja|rustc|cargo|go|javac|gdb|strace)(?:-[0-9.]+)?"
)
_INSTALLER: Final = re.compile(
    _BIN + r"(?:pip|pip3|pip3\.[0-9]+|uv|poetry|conda|npm|npx|yarn|pnpm|gem|easy_install)"
    r"|.*/(?:site|dist)-packages/pip/__init__\.py|.*/ensurepip/_bundled/pip-[^/]+\.whl"
    r"|usr/share/python-wheels/pip-[^/]+\.whl"
)
_CACHE: Final = re.compile(
    r"var/cache/apt/.*\.(?:deb|bin)|var/lib/apt/lists/.+_.+|var/cache/(?:apk|dnf|yum)/.+|var/cache/debconf/.+-old"
    r"|(?:root|home/[^/]+)/\.(?:cache|npm|cargo|m2|gradle|conda)/.+|(?:tmp|var/tmp)/.+|.*/\.cache/(?:pip|uv)/.+"
)
_LEFT_OVER: Final = re.compile(
    r"(?:.*/)?(?:\.git|\.svn|\.hg)/.+|(?:.*/)?(?:\.bash_history|\.python_history|\.netrc|\.pypirc|\.npmrc|\.git-credentials)"
    r"|(?:.*/)?\.docker/config\.json|(?:.*/)?\.aws/credentials|(?:.*/)?\.ssh/id_[a-z0-9]+|core\.[0-9]+"
)
_BY_PATH: Final = (
    ("toolchain", "error", _TOOLS, "compilers and debuggers help whoever breaks in; build in an earlier stage"),
    (
        "package-installer",
        "error",
        _INSTALLER,
        "an installer brings what nobody reviewed; install in an earlier stage",
    ),
    ("package-cache", "warning", _CACHE, "what a build left behind is pulled with every image"),
    ("left-over", "error", _LEFT_OVER, "histories and credentials of a build do not belong in what runs"),
)


def findings_in_files(tree: FileTree) -> Iterator[Finding]:
    """Go through what is there."""
    for path, inode in tree.live():
        yield from _by_mode(path, inode)
        if inode.kind == "directory" or (inode.kind == "file" and not inode.size):
            continue
        for rule, level, pattern, message in _BY_PATH:
            if pattern.fullmatch(path):
                yield Finding(rule=rule, level=level, where=f"/{path}", message=message)  # type: ignore[arg-type]  # from the table above


def _by_mode(path: str, inode: Inode) -> Iterator[Finding]:
    where = f"/{path}"
    if inode.kind == "file" and inode.mode & _SET_ID:
        message = f"mode {inode.mode:04o}: runs with its owner's rights, whoever starts it; chmod ug-s"
        yield Finding(rule="set-id", level="error", where=where, message=message)
    if inode.kind == "file" and inode.has_capabilities:
        message = "has capabilities of its own: runs with them, whoever starts it; setcap -r"
        yield Finding(rule="set-id", level="error", where=where, message=message)
    if inode.kind == "device":
        yield Finding(rule="device-file", level="error", where=where, message="engines make devices, images have none")
    is_open = inode.kind in {"file", "directory"} and inode.mode & _OTHERS_WRITE
    if is_open and not (inode.kind == "directory" and inode.mode & _STICKY):
        message = f"mode {inode.mode:04o}: everybody may change it; chmod o-w"
        yield Finding(rule="world-writable", level="error", where=where, message=message)
