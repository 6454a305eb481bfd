"""Verifies lock files: reads them and what they include, and applies the rules. The only module here with I/O.

Every input has a limit. A file that cannot be read as text is refused; one that cannot be opened is the caller's
mistake where it was named on the command line, and a refusal where another lock names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from pratique.core.errors import CallerError
from pratique.release.lock.interface import Entry, Include, Problem, Read
from pratique.release.lock.pylock import read_pylock
from pratique.release.lock.requirements import read_requirements
from pratique.release.lock.rules import find_duplicates
from pratique.release.lock.settings import LockSettings
from pratique.release.lock.uvlock import read_uv_lock

__all__ = ["Verified", "entries_of", "verify_lock"]

_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_FILES: Final = 64


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one lock and everything that it includes."""

    file: str
    num_packages: int
    problems: tuple[Problem, ...]


def verify_lock(path: Path, settings: LockSettings) -> Verified:
    """Say whether a lock pins everything that it installs.

    Raises:
        CallerError: there is no such file.
    """
    entries, problems = _read(path, settings)
    problems += find_duplicates(entries)
    installed = {entry.name for entry in entries if not entry.is_constraint}
    if not installed and not problems:
        problems.append(Problem(str(path), 0, "empty", "pins nothing: a lock names what it installs"))
    return Verified(file=str(path), num_packages=len(installed), problems=tuple(sorted(set(problems))))


def entries_of(path: Path, settings: LockSettings) -> tuple[Entry, ...]:
    """Return what a lock pins, as far as it can be read.

    Raises:
        CallerError: there is no such file.
    """
    return tuple(_read(path, settings)[0])


def _read(path: Path, settings: LockSettings) -> tuple[list[Entry], list[Problem]]:
    if not path.is_file():
        raise CallerError(f"there is no lock file {path}")
    entries: list[Entry] = []
    problems: list[Problem] = []
    waiting: list[tuple[Path, bool]] = [(path, False)]
    seen: set[tuple[Path, bool]] = set()
    while waiting:
        file, is_constraint = waiting.pop(0)
        if (file.resolve(), is_constraint) in seen:
            continue
        seen.add((file.resolve(), is_constraint))
        found = _read_one(file, settings, is_constraint=is_constraint)
        entries += found.entries
        problems += found.problems
        waiting += _included(file, found.includes, problems)
        if len(seen) > _MAX_FILES:
            problems.append(Problem(str(path), 0, "include", f"includes more than {_MAX_FILES} files"))
            break
    return entries, problems


def _included(file: Path, includes: Iterable[Include], problems: list[Problem]) -> list[tuple[Path, bool]]:
    found = []
    for include in includes:
        path = file.parent / include.path
        if path.is_file():
            found.append((path, include.is_constraint))
        else:
            problems.append(Problem(str(file), include.line, "include", f"there is no file '{include.path[:200]}'"))
    return found


def _read_one(file: Path, settings: LockSettings, *, is_constraint: bool) -> Read:
    with file.open("rb") as opened:
        content = opened.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        return Read((), (Problem(str(file), 0, "malformed", f"has more than {_MAX_BYTES} bytes"),))
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return Read((), (Problem(str(file), line, "malformed", "is no UTF-8"),))
    if file.name == "uv.lock":
        return read_uv_lock(text, str(file), settings)
    if file.suffix == ".toml":
        return read_pylock(text, str(file), settings)
    return read_requirements(text, str(file), settings, is_constraint=is_constraint)
