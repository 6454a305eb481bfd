"""The order of versions: of PyPI by PEP 440, of Debian by dpkg's rules, of npm by SemVer. Pure.

A version that cannot be compared has no key, and whoever asks must take that for "undetermined". Keys of one ordering
compare with each other; keys of two do not.
Sources: PEP 440; Debian Policy 5.6.12 and deb-version(7); Semantic Versioning 2.0.0, section 11.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["DEBIAN", "NPM", "PYPI", "Ordering", "ordering_of"]

Key = Any
"""Compares by <, == and > with keys of the same ordering; None where a version cannot be compared."""

_MAX_LENGTH: Final = 512
_CACHE: Final = 131_072

_EPOCH: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_UPSTREAM: Final = re.compile(r"[0-9][A-Za-z0-9.+~:-]*", re.ASCII)
_REVISION: Final = re.compile(r"[A-Za-z0-9.+~]+", re.ASCII)
_CHUNK: Final = re.compile(r"([^0-9]*)([0-9]*)", re.ASCII)
_SEMVER: Final = re.compile(
    r"v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)
_BINARY_REBUILD: Final = re.compile(r"\+b[0-9]+\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ordering:
    """How the versions of one ecosystem compare."""

    name: str
    key: Callable[[str], Key]
    """What to compare by; None: this is no version of the ecosystem."""
    variants: Callable[[str], tuple[str, ...]]
    """The version, and what it is a mere rebuild of: an advisory about either concerns it."""


@functools.lru_cache(maxsize=_CACHE)
def _pypi_key(version: str) -> Key:
    from packaging.version import InvalidVersion, Version

    if len(version) > _MAX_LENGTH:
        return None
    try:
        return Version(version)
    except InvalidVersion:
        return None


@functools.lru_cache(maxsize=_CACHE)
def _pypi_variants(version: str) -> tuple[str, ...]:
    # "2.1.0+cpu" is 2.1.0, built by somebody else; alone it would be later than a `last_affected` of 2.1.0.
    public, plus, _ = version.partition("+")
    return (version, public) if plus and public else (version,)


@functools.lru_cache(maxsize=_CACHE)
def _debian_key(version: str) -> Key:
    if len(version) > _MAX_LENGTH:
        return None
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"  # no revision equals the revision 0
    if not (_EPOCH.fullmatch(epoch) and _UPSTREAM.fullmatch(upstream) and _REVISION.fullmatch(revision)):
        return None
    return int(epoch), _debian_part(upstream), _debian_part(revision)


def _debian_part(text: str) -> tuple[int, ...]:
    """Make the numbers that dpkg compares one after another.

    Digits and what is between them take turns, beginning with the latter. A tilde sorts before the end, the end before
    letters, letters before all else; the 0 after each run of other characters is its end.
    """
    numbers: list[int] = []
    for between, digits in _CHUNK.findall(text):
        if between or digits:
            numbers.extend(map(_weight, between))
            numbers += (0, int(digits or 0))
    return (*numbers, 0)


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


@functools.lru_cache(maxsize=_CACHE)
def _debian_variants(version: str) -> tuple[str, ...]:
    # "1.2-3+b1" is the source 1.2-3, compiled again.
    source = _BINARY_REBUILD.sub("", version)
    return (version, source) if source != version else (version,)


@functools.lru_cache(maxsize=_CACHE)
def _npm_key(version: str) -> Key:
    found = _SEMVER.fullmatch(version) if len(version) <= _MAX_LENGTH else None
    if found is None:
        return None
    *numbers, before = found.groups()
    # A version before the release comes first; its parts compare as numbers, which come before words.
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in (before or "").split("."))
    return (*map(int, numbers), before is None, parts)


def _npm_variants(version: str) -> tuple[str, ...]:
    return (version,)  # what stands behind a plus is no part of the order


PYPI: Final = Ordering("PEP 440", _pypi_key, _pypi_variants)
DEBIAN: Final = Ordering("dpkg", _debian_key, _debian_variants)
NPM: Final = Ordering("SemVer", _npm_key, _npm_variants)
_ORDERINGS: Final = {"PyPI": PYPI, "Debian": DEBIAN, "npm": NPM}


@functools.lru_cache(maxsize=1024)
def ordering_of(ecosystem: str) -> Ordering | None:
    """Return how the versions of an ecosystem of OSV compare, "Debian:12" for example; None: that is not known here."""
    return _ORDERINGS.get(ecosystem.partition(":")[0])
