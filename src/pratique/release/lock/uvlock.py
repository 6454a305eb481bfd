"""`uv.lock`, held to the rules: pure. Source: uv's documentation, "Project structure and files", and its lock reader.

The project itself stands in its lock as the folder "."; that is the checkout, and needs no hash. Any other folder, path
or repository is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pratique.release.decoding import MalformedError, convert_value
from pratique.release.lock.interface import Entry, Problem, Read, Rule
from pratique.release.lock.rules import index_fault, judge_hashes, missing_dependencies, url_fault
from pratique.release.lock.settings import LockSettings
from pratique.release.lock.toml import lines_of, load

__all__ = ["read_uv_lock"]

_SHOWN: Final = 200
_VERSION: Final = 1


class _Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    registry: str | None = None
    git: str | None = None
    url: str | None = None
    path: str | None = None
    directory: str | None = None
    editable: str | None = None
    virtual: str | None = None
    subdirectory: str | None = None


class _File(msgspec.Struct, frozen=True):
    url: str = ""
    path: str = ""
    filename: str = ""
    hash: str = ""

    @property
    def name(self) -> str:
        return (self.filename or self.url or self.path or "a file").rpartition("/")[2][:_SHOWN]


class _Needed(msgspec.Struct, frozen=True):
    name: str


class _Package(msgspec.Struct, frozen=True, rename="kebab"):
    name: str
    source: _Source
    version: str = ""
    resolution_markers: tuple[str, ...] = ()
    dependencies: tuple[_Needed, ...] = ()
    optional_dependencies: dict[str, tuple[_Needed, ...]] = {}
    dev_dependencies: dict[str, tuple[_Needed, ...]] = {}
    sdist: _File | None = None
    wheels: tuple[_File, ...] = ()

    @property
    def files(self) -> tuple[_File, ...]:
        return (*((self.sdist,) if self.sdist is not None else ()), *self.wheels)

    @property
    def is_checkout(self) -> bool:
        return "." in {self.source.editable, self.source.virtual}

    def needed(self) -> list[str]:
        groups = [self.dependencies, *self.optional_dependencies.values(), *self.dev_dependencies.values()]
        return [canonicalize_name(one.name) for group in groups for one in group]


class _Lock(msgspec.Struct, frozen=True):
    version: int
    package: tuple[_Package, ...] = ()


def read_uv_lock(text: str, file: str, settings: LockSettings) -> Read:
    """Read a lock that uv wrote."""
    document = load(text)
    lock = _parse(document) if not isinstance(document, str) else document
    if isinstance(lock, str):
        return Read((), (Problem(file, 0, "malformed", lock),))
    lines = lines_of(text, "package", len(lock.package))
    entries: list[Entry] = []
    problems: list[Problem] = []
    for line, package in zip(lines, lock.package, strict=True):
        found = [] if package.is_checkout else list(_faults(package, settings))
        problems += [Problem(file, line, rule, f"{package.name[:_SHOWN]} {message}") for rule, message in found]
        if not found and not package.is_checkout:
            entries.append(_entry(package, file, line))
    known = [Entry(file, 0, canonicalize_name(package.name), "") for package in lock.package]
    at = {str(canonicalize_name(package.name)): line for line, package in zip(lines, lock.package, strict=True)}
    needed = {str(canonicalize_name(package.name)): package.needed() for package in lock.package}
    for name, other in missing_dependencies(needed, known):
        problems.append(Problem(file, at[name], "missing-dependency", f"{name} needs {other}, which is not locked"))
    return Read(tuple(entries), tuple(problems))


def _parse(document: dict[str, Any]) -> _Lock | str:
    try:
        lock = convert_value(document, _Lock)
    except MalformedError as error:
        return f"is no lock of uv: {error}"
    return lock if lock.version == _VERSION else f"is a lock of version {lock.version}: expected {_VERSION}"


def _entry(package: _Package, file: str, line: int) -> Entry:
    marker = " or ".join(f"({one})" for one in package.resolution_markers)
    hashes = frozenset(one.hash.lower() for one in package.files)
    return Entry(file, line, canonicalize_name(package.name), package.version, marker, hashes)


def _faults(package: _Package, settings: LockSettings) -> Iterator[tuple[Rule, str]]:
    yield from _source_faults(package.source, settings)
    try:
        Version(package.version)
    except InvalidVersion:
        yield "floating-version", f"has no version, but '{package.version[:40]}'"
    if not package.files:
        yield "missing-hash", "has no file to install"
    for one in package.files:
        algorithm, _, digits = one.hash.partition(":")
        fault = judge_hashes([(algorithm, digits)] if one.hash else [])
        if fault is not None:
            yield fault[0], f"({one.name}) {fault[1]}"
        if one.path or not one.url:
            yield "local-path", f"({one.name}) lies on the machine that locked it"
        elif (where := url_fault(one.url, settings)) is not None:
            yield "unlisted-index", where


def _source_faults(source: _Source, settings: LockSettings) -> Iterator[tuple[Rule, str]]:
    if source.git is not None:
        yield "vcs", "comes from version control: build a wheel, and pin it"
    elif source.url is not None:
        yield "direct-url", "comes from an archive's address, and from no index"
    elif source.editable is not None:
        yield "editable", f"is installed from the folder '{source.editable[:_SHOWN]}': build a wheel, and pin it"
    elif source.registry is None:
        yield "local-path", "is installed from a folder or a file"
    elif (fault := index_fault(source.registry, settings)) is not None:
        yield "unlisted-index", f"comes from an index that is not allowed: {fault}"
