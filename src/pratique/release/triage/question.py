"""What triage is asked: a vulnerability by any of its names, or a package in a range of versions. Pure.

    CVE-2024-1234   PYSEC-2024-1   GHSA-…          an advisory of the database, by id or alias
    requests@<2.31.0        pkg:pypi/requests@>=2,<2.31.0        deb/openssl@3.0.11-1        requests@*

A range is turned into a record like those of the database, so that both are judged by the same matching.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pratique.core.errors import CallerError
from pratique.release.advisories.records import Advisory, Affected, Event, EventKind, Range, package_name
from pratique.release.advisories.versions import ordering_of

__all__ = ["PackageRange", "Question", "parse_question"]

_ADVISORY: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*-[^\s/@]{1,200}", re.ASCII)
_FAMILIES: Final = {"pypi": "PyPI", "npm": "npm", "deb": "Debian", "debian": "Debian"}
_PART: Final = re.compile(r"(>=|<=|==|=|<)?\s*([^\s<>=,|*]{1,512})")
_HINT: Final = "For example CVE-2024-1234, requests@<2.31.0, pkg:pypi/requests@>=2,<2.31.0 or deb/openssl@3.0.11-1."


@dataclass(frozen=True, slots=True)
class PackageRange:
    """A package in some versions."""

    text: str
    advisory: Advisory
    """As if a record said so."""


Question = str | PackageRange
"""The name of an advisory, or a package."""


def parse_question(text: str) -> Question:
    """Read what is asked.

    Raises:
        CallerError: it is neither; the hint shows both forms.
    """
    if "@" not in text.removeprefix("@")[1:]:
        if _ADVISORY.fullmatch(text):
            return text
        raise CallerError(f"expected an advisory's name or PACKAGE@RANGE, got '{text[:200]}'", hint=_HINT)
    package, _, span = text.rpartition("@")
    kind, slash, name = package.removeprefix("pkg:").partition("/")
    if not slash or kind not in _FAMILIES:
        if package.startswith("pkg:"):
            raise CallerError(f"expected a package of {', '.join(_FAMILIES)}, got '{package[:200]}'", hint=_HINT)
        families, name = tuple(dict.fromkeys(_FAMILIES.values())), package
    else:
        families, name = (_FAMILIES[kind],), name if kind == "npm" else name.rpartition("/")[2]
    if not name or any(character.isspace() for character in name):
        raise CallerError(f"expected a package's name before '@', got '{text[:200]}'", hint=_HINT)
    affected = tuple(_affected(family, package_name(family, name), span) for family in families)
    _require_versions(affected, text)
    return PackageRange(text, Advisory(text, None, None, None, (), (), "", "unknown", "", affected))


def _affected(family: str, name: str, span: str) -> Affected:
    if span.strip() == "*":
        return Affected(family, name, (Range("ECOSYSTEM", (Event("introduced", "0"),)),), ())
    events: list[Event] = []
    versions: list[str] = []
    for part in span.split(","):
        found = _PART.fullmatch(part.strip())
        if found is None:
            raise CallerError(f"expected a range like '>=1.0,<2.0', '1.5' or '*', got '{span[:200]}'", hint=_HINT)
        operator, version = found.groups()
        if operator in {None, "=", "=="}:
            versions.append(version)
        else:
            events.append(Event(_KINDS[operator], version))
    if len({event.kind == "introduced" for event in events}) < len(events) or (events and versions):
        raise CallerError(f"a range has one lower and one upper bound, or names versions, got '{span[:200]}'")
    if events and all(event.kind != "introduced" for event in events):
        events.insert(0, Event("introduced", "0"))
    return Affected(family, name, (Range("ECOSYSTEM", tuple(events)),) if events else (), tuple(versions))


_KINDS: Final[dict[str, EventKind]] = {">=": "introduced", "<": "fixed", "<=": "last_affected"}


def _require_versions(affected: tuple[Affected, ...], text: str) -> None:
    """Refuse bounds that no ecosystem asked about can compare: everything would be undetermined, for a slip."""
    for one in affected:
        ordering = ordering_of(one.ecosystem)
        named = [*one.versions, *(event.version for span in one.ranges for event in span.events)]
        if ordering is not None and all(name == "0" or ordering.key(name) is not None for name in named):
            return
    raise CallerError(f"a version in '{text[:200]}' is none that can be compared", hint=_HINT)
