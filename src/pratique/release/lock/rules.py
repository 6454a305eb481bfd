"""The rules that hold for every format of lock: pure.

1. A hash is SHA-256, SHA-384 or SHA-512, and complete. Others are broken, or were cut.
2. A name has one version. Two stand beside each other only where each has its own marker, which then has to keep them
   apart; an installer refuses them where both hold.
3. Addresses are of the listed indexes and of their files, over TLS, without a login in them.
4. A lock that pins nothing is refused: an empty file must not be how everything is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from pratique.release.lock.interface import Entry, Problem, Rule
from pratique.release.lock.settings import LockSettings

__all__ = ["find_duplicates", "index_fault", "judge_hashes", "missing_dependencies", "url_fault"]

STRONG: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]+", re.ASCII | re.IGNORECASE)
_SHOWN: Final = 200


def judge_hashes(hashes: Iterable[tuple[str, str]]) -> tuple[Rule, str] | None:
    """Say what is wrong with the hashes of one file, or of one requirement; None: each is strong, and there is one."""
    found = list(hashes)
    if not found:
        return "missing-hash", "has no hash"
    for algorithm, digits in found:
        length = STRONG.get(algorithm.lower())
        if length is None:
            return "weak-hash", f"has a hash by '{algorithm[:40]}': expected sha256, sha384 or sha512"
        if len(digits) != length or not _HEXADECIMAL.fullmatch(digits):
            return "malformed", f"has a {algorithm} that is not {length} hexadecimal digits: '{digits[:_SHOWN]}'"
    return None


def index_fault(url: str, settings: LockSettings) -> str | None:
    """Say why an index is not one to install from; None: it is listed."""
    if "@" in urlsplit(url).netloc:
        return "an index's address has a login in it: logins belong to .netrc or a keyring"
    if _same(url) not in {_same(listed) for listed in settings.indexes}:
        return f"'{url[:_SHOWN]}' is none of the listed indexes ({', '.join(settings.indexes) or 'none is'})"
    return None


def url_fault(url: str, settings: LockSettings) -> str | None:
    """Say why a file's address is not one to install from; None: it lies below what is listed."""
    parts = urlsplit(url)
    listed = [one if one.endswith("/") else f"{one}/" for one in (*settings.file_urls, *settings.indexes)]
    # A path with dots in it may lead out of the folder that it seems to lie in.
    is_plain = (
        ".." not in parts.path and "%2e" not in parts.path.lower() and "\\" not in url and "@" not in parts.netloc
    )
    if is_plain and any(url.startswith(one) for one in listed):
        return None
    return f"'{url[:_SHOWN]}' lies below none of the listed addresses"


def find_duplicates(entries: Iterable[Entry]) -> Iterator[Problem]:
    """Tell every entry that contradicts an earlier one of the same lock."""
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        earlier = by_name.setdefault(entry.name, [])
        for other in earlier:
            fault = _contradiction(other, entry)
            if fault is not None:
                where = f"{other.file}:{other.line}"
                text = f"{entry.name}=={entry.version} {fault} {other.version} in {where}"
                yield Problem(entry.file, entry.line, "duplicate", text)
                break
        earlier.append(entry)


def _contradiction(one: Entry, other: Entry) -> str | None:
    if one.version != other.version:
        is_apart = bool(one.marker) and bool(other.marker) and one.marker != other.marker
        return None if is_apart else "is pinned beside"
    if one.hashes and other.hashes and one.hashes != other.hashes and one.marker == other.marker:
        return "has other hashes than"
    return None


def missing_dependencies(needed: Mapping[str, Iterable[str]], entries: Iterable[Entry]) -> Iterator[tuple[str, str]]:
    """Tell which packages need one that the lock does not have: (package, what it needs)."""
    known = {entry.name for entry in entries}
    for name, others in needed.items():
        yield from ((name, other) for other in others if other not in known)


def _same(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path.rstrip('/')}?{parts.query}"
