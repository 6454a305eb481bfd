"""`approved-packages.toml`: what may be served. Pure; read strictly, since it decides.

Invariants: names are in normal form, and so are versions; every file is named like its project and version, and has a
SHA-256. So a file's name stands once. Unknown keys are refused, because a misspelt one would be a rule that does not
hold.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from pratique.release.decoding import MalformedError, convert_value, decode_toml
from pratique.release.errors import DigestError
from pratique.release.mirror.errors import ApprovedFileError
from pratique.release.mirror.names import is_name, is_private, normal
from pratique.release.values import Digest, parse_digest

__all__ = ["Approved", "ApprovedFile", "ApprovedPackage", "ApprovedVersion", "parse_approved", "version_of_file"]

MAX_BYTES: Final = 16 * 1024 * 1024
_FILENAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}", re.ASCII)
_PATTERN: Final = re.compile(r"[a-z0-9*](?:[a-z0-9*-]*[a-z0-9*])?", re.ASCII)
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class ApprovedVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that may be served."""

    version: _Text
    files: Annotated[dict[str, str], msgspec.Meta(min_length=1)]
    """The digest of each file, by its name."""
    yanked: str = ""
    """Why nobody should take it anew (PEP 592); empty: it is fine."""


class ApprovedPackage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project of which something may be served."""

    name: _Text
    licence: _Text
    """An SPDX expression."""
    approved_by: _Text
    approved_on: dt.date
    reason: _Text
    version: Annotated[tuple[ApprovedVersion, ...], msgspec.Meta(min_length=1)]
    similar_to: tuple[str, ...] = ()
    """Known names that it looks like, and is not: somebody has looked."""

    @property
    def versions(self) -> Mapping[str, ApprovedVersion]:
        """Its versions by name."""
        return {one.version: one for one in self.version}


class _Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    private: tuple[str, ...] = ()
    popular: tuple[str, ...] = ()


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    names: _Names = _Names()
    package: tuple[ApprovedPackage, ...] = ()


@dataclass(frozen=True, slots=True)
class ApprovedFile:
    """A file that may be served."""

    package: str
    version: str
    filename: str
    digest: Digest
    yanked: str


@dataclass(frozen=True, slots=True)
class Approved:
    """Everything that may be served."""

    packages: Mapping[str, ApprovedPackage] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    """Names of ours, with `*`: their files never come from the upstream."""
    popular: tuple[str, ...] = ()
    """Names that others may want to be taken for."""

    def is_private(self, name: str) -> bool:
        """Whether a name is one of ours."""
        return is_private(name, self.private)

    def files(self, name: str | None = None) -> Iterator[ApprovedFile]:
        """Go through the files, of one project or of all."""
        for package in self.packages.values() if name is None else filter(None, [self.packages.get(name)]):
            for version in package.version:
                for filename, digest in sorted(version.files.items()):
                    yield ApprovedFile(package.name, version.version, filename, Digest(digest), version.yanked)


def parse_approved(text: str) -> Approved:
    """Read the file.

    Raises:
        ApprovedFileError: it is not what it should be; says where.
    """
    try:
        document = convert_value(decode_toml(text, max_bytes=MAX_BYTES), _Document)
    except MalformedError as error:
        raise ApprovedFileError(f"the file of approved packages cannot be read: {error}") from error
    if document.schema != 1:
        raise ApprovedFileError(f"expected schema = 1, got {document.schema}")
    packages: dict[str, ApprovedPackage] = {}
    for package in document.package:
        _require_package(package)
        if package.name in packages:
            raise ApprovedFileError(f"{package.name} stands twice: put all versions below one [[package]]")
        packages[package.name] = package
    _require_names(document.names)
    return Approved(packages, document.names.private, document.names.popular)


def version_of_file(filename: str) -> tuple[str, str] | None:
    """Return whose file this is and of which version, in normal form; None: no wheel and no source archive."""
    if not _FILENAME.fullmatch(filename):
        return None
    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
        else:
            name, version = parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return str(name), str(version)


def _require_names(names: _Names) -> None:
    for pattern in names.private:
        if not _PATTERN.fullmatch(pattern) or not pattern.strip("*-"):
            raise ApprovedFileError(f"names.private: '{pattern[:100]}' is no name in normal form, with or without *")
    for name in names.popular:
        if not is_name(name) or normal(name) != name:
            raise ApprovedFileError(f"names.popular: '{name[:100]}' is no name in normal form")


def _require_package(package: ApprovedPackage) -> None:
    name = package.name
    if not is_name(name) or normal(name) != name:
        raise ApprovedFileError(f"'{name[:100]}' is no name in normal form: lower case, with '-'")
    for text in (package.approved_by, package.reason, package.licence):
        if not text.strip():
            raise ApprovedFileError(f"{name}: licence, approved_by and reason must say something")
    versions: set[str] = set()
    for version in package.version:
        if version.version in versions:
            raise ApprovedFileError(f"{name}: the version {version.version} stands twice")
        versions.add(version.version)
        _require_version(name, version)


def _require_version(name: str, version: ApprovedVersion) -> None:
    try:
        spelt = str(Version(version.version))
    except InvalidVersion as error:
        raise ApprovedFileError(f"{name}: '{version.version[:100]}' is no version (PEP 440)") from error
    if spelt != version.version:
        raise ApprovedFileError(f"{name}: expected the version in normal form, {spelt}, got {version.version}")
    for filename, digest in version.files.items():
        if version_of_file(filename) != (name, spelt):
            raise ApprovedFileError(f"{name} {spelt}: '{filename[:200]}' is no file of this version")
        try:
            parse_digest(digest)
        except DigestError as error:
            raise ApprovedFileError(f"{name} {spelt}: {filename}: {error.message}") from error
