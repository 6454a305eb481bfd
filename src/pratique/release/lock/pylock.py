"""`pylock.toml`, held to the rules: pure. Its form is checked by `packaging`. Source: PEP 751."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.pylock import Package, PackageSdist, PackageWheel, Pylock, PylockValidationError
from packaging.utils import canonicalize_name

from pratique.release.lock.interface import Entry, Problem, Read, Rule
from pratique.release.lock.rules import index_fault, judge_hashes, missing_dependencies, url_fault
from pratique.release.lock.settings import LockSettings
from pratique.release.lock.toml import lines_of, load

__all__ = ["read_pylock"]

_SHOWN: Final = 200


def read_pylock(text: str, file: str, settings: LockSettings) -> Read:
    """Read a lock of PEP 751."""
    document = load(text)
    if isinstance(document, str):
        return Read((), (Problem(file, 0, "malformed", document),))
    try:
        lock = Pylock.from_dict(document)
    except PylockValidationError as error:
        return Read((), (Problem(file, 0, "malformed", f"is no lock of PEP 751: {error}"),))
    lines = lines_of(text, "packages", len(lock.packages))
    entries: list[Entry] = []
    problems: list[Problem] = []
    for line, package in zip(lines, lock.packages, strict=True):
        found = list(_faults(package, settings))
        problems += [Problem(file, line, rule, f"{package.name} {message}") for rule, message in found]
        if not found:
            entries.append(_entry(package, file, line))
    problems += _missing(lock, file, lines)
    return Read(tuple(entries), tuple(problems))


def _entry(package: Package, file: str, line: int) -> Entry:
    hashes = {f"{name}:{value}" for one in _files(package) for name, value in one.hashes.items()}
    return Entry(file, line, package.name, str(package.version), str(package.marker or ""), frozenset(hashes))


def _files(package: Package) -> Iterator[PackageSdist | PackageWheel]:
    if package.sdist is not None:
        yield package.sdist
    yield from package.wheels or ()


def _faults(package: Package, settings: LockSettings) -> Iterator[tuple[Rule, str]]:
    if package.vcs is not None:
        yield "vcs", "comes from version control: build a wheel, and pin it"
    elif package.directory is not None:
        yield "editable" if package.directory.editable else "local-path", "is installed from a folder"
    elif package.archive is not None:
        yield "direct-url", "comes from an archive's address, and from no index"
    elif package.version is None:
        yield "floating-version", "has no version"
    if package.index is not None and (fault := index_fault(package.index, settings)) is not None:
        yield "unlisted-index", f"comes from an index that is not allowed: {fault}"
    for one in _files(package):
        yield from _file_faults(one, settings)


def _file_faults(one: PackageSdist | PackageWheel, settings: LockSettings) -> Iterator[tuple[Rule, str]]:
    named = one.name or (one.url or one.path or "a file").rpartition("/")[2]
    fault = judge_hashes(one.hashes.items())
    if fault is not None:
        yield fault[0], f"({named[:_SHOWN]}) {fault[1]}"
    if one.path is not None:
        yield "local-path", f"({named[:_SHOWN]}) lies on the machine that locked it"
    if one.url is not None and (where := url_fault(one.url, settings)) is not None:
        yield "unlisted-index", where


def _missing(lock: Pylock, file: str, lines: list[int]) -> Iterator[Problem]:
    at = dict(zip((str(package.name) for package in lock.packages), lines, strict=True))
    needed = {
        str(package.name): [canonicalize_name(str(one.get("name", ""))) for one in package.dependencies or ()]
        for package in lock.packages
    }
    known = [Entry(file, 0, str(package.name), "") for package in lock.packages]
    for name, other in missing_dependencies(needed, known):
        message = f"{name} needs {other or 'something without a name'}, which is not locked"
        yield Problem(file, at[name], "missing-dependency", message)
