"""One advisory, read from a record in OSV's format. Pure.

Members that are not known are left alone, as the format's rules for versions want it; another major version is refused.
What says which versions are concerned is read strictly: a range that breaks the format's rules is kept with what is
wrong with it, and whoever asks about it gets "undetermined". A record is refused whole only where not even its name or
its packages can be read. Source: OSV schema 1.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from pratique.release.advisories.errors import AdvisoryDataError
from pratique.release.advisories.severity import Score, rate
from pratique.release.decoding import MalformedError, convert_value, decode_json, parse_instant
from pratique.release.predicates import Severity

__all__ = ["Advisory", "Affected", "Event", "EventKind", "Range", "package_name", "parse_record"]

MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
_MAX_SUMMARY: Final = 300

EventKind = Literal["introduced", "fixed", "last_affected", "limit"]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class Event(msgspec.Struct, frozen=True, array_like=True):
    """A version at which something changes."""

    kind: EventKind
    version: str


class Range(msgspec.Struct, frozen=True, array_like=True):
    """What happened to a package over its versions."""

    type: str
    """ECOSYSTEM, SEMVER, or GIT, which is about commits and says nothing of versions."""
    events: tuple[Event, ...]
    problem: str = ""
    """Why it cannot be evaluated; empty where it can."""


class Affected(msgspec.Struct, frozen=True, array_like=True):
    """A package that an advisory concerns, and in which versions: in any of the ranges, or listed."""

    ecosystem: str
    """Of OSV, with its release where it has one: "PyPI", "Debian:12"."""
    name: str
    """Normalised for PyPI (PEP 503); the source package for Debian."""
    ranges: tuple[Range, ...]
    versions: tuple[str, ...]


class Advisory(msgspec.Struct, frozen=True, array_like=True):
    """A record."""

    id: str
    modified: datetime | None
    """None where it is no time: some records have the year 1."""
    published: datetime | None
    withdrawn: datetime | None
    aliases: tuple[str, ...]
    """The same vulnerability in other databases."""
    upstream: tuple[str, ...]
    """The vulnerabilities that a distribution's advisory is about."""
    summary: str
    severity: Severity
    severity_from: str
    """The record that says so: this one, or another of the same vulnerability."""
    affected: tuple[Affected, ...]


class _Package(msgspec.Struct, frozen=True):
    ecosystem: _Text
    name: _Text


class _Affected(msgspec.Struct, frozen=True):
    package: _Package | None = None
    severity: tuple[Score, ...] | None = None
    ranges: tuple[msgspec.Raw, ...] | None = None
    versions: tuple[str, ...] | None = None
    database_specific: dict[str, object] | None = None
    ecosystem_specific: dict[str, object] | None = None


class _Record(msgspec.Struct, frozen=True):
    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z][A-Za-z0-9]*-[^\s/]{1,200}\Z")]
    modified: str
    schema_version: Annotated[str, msgspec.Meta(pattern=r"^1\.")] = "1.0.0"
    published: str | None = None
    withdrawn: str | None = None
    aliases: tuple[str, ...] | None = None
    upstream: tuple[str, ...] | None = None
    summary: str | None = None
    details: str | None = None
    severity: tuple[Score, ...] | None = None
    affected: tuple[_Affected, ...] | None = None
    database_specific: dict[str, object] | None = None


class _Range(msgspec.Struct, frozen=True):
    type: Literal["ECOSYSTEM", "SEMVER", "GIT"]
    events: Annotated[tuple[dict[str, _Text], ...], msgspec.Meta(min_length=1)]


def package_name(ecosystem: str, name: str) -> str:
    """Return a package's name as it is looked up: for PyPI in the normal form of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower() if ecosystem == "PyPI" else name


def parse_record(content: bytes) -> Advisory:
    """Read a record.

    Raises:
        AdvisoryDataError: it is none; the message says where.
    """
    try:
        wire = decode_json(content, _Record, max_bytes=MAX_RECORD_BYTES)
    except MalformedError as error:
        raise AdvisoryDataError(f"expected a record in OSV's format, 1.x: {error}") from error
    affected = wire.affected or ()
    severity = _severity(wire, affected)
    return Advisory(
        id=wire.id,
        modified=_instant(wire.modified),
        published=_instant(wire.published),
        withdrawn=_instant(wire.withdrawn),  # what was withdrawn at no time still counts
        aliases=tuple(dict.fromkeys(wire.aliases or ())),
        upstream=tuple(dict.fromkeys(wire.upstream or ())),
        summary=_summary(wire),
        severity=severity,
        severity_from=wire.id if severity != "unknown" else "",
        affected=tuple(_read_affected(one) for one in affected if one.package),
    )


def _instant(text: str | None) -> datetime | None:
    try:
        return parse_instant(text) if text is not None else None
    except MalformedError:
        return None


def _read_affected(wire: _Affected) -> Affected:
    package = wire.package or _Package("", "")
    name = package_name(package.ecosystem, package.name)
    ranges = tuple(map(_read_range, wire.ranges or ()))
    return Affected(package.ecosystem, name, ranges, tuple(dict.fromkeys(wire.versions or ())))


def _read_range(raw: msgspec.Raw) -> Range:
    try:
        wire = decode_json(raw, _Range)
    except MalformedError as error:
        return Range("ECOSYSTEM", (), f"the range is malformed: {error}")
    events, problems = [], []
    for one in wire.events:
        try:
            events += convert_value(list(one.items()), list[Event])
        except MalformedError:
            problems.append(f"an event has the members {', '.join(one)}")
            continue
        if len(one) != 1:
            problems.append(f"an event must have one member, got {len(one)}")
    kinds = {event.kind for event in events}
    if "introduced" not in kinds:
        problems.append("no event introduces anything")
    if {"fixed", "last_affected"} <= kinds and wire.type != "GIT":
        problems.append("a range has 'fixed' or 'last_affected', not both")
    return Range(wire.type, tuple(events), "; ".join(problems))


def _severity(wire: _Record, affected: Iterable[_Affected]) -> Severity:
    """Of the record, or of its packages where those say it each for itself: then the highest."""
    scores = [*(wire.severity or ()), *(score for one in affected for score in one.severity or ())]
    labels = [_label(wire.database_specific, "severity")]
    labels += [_label(one.database_specific, "severity") for one in affected]
    labels += [_label(one.ecosystem_specific, "severity") for one in affected]
    labels += [_label(one.ecosystem_specific, "urgency") for one in affected]
    return rate(scores, labels)


def _label(specific: dict[str, object] | None, name: str) -> str:
    value = (specific or {}).get(name)
    return value if isinstance(value, str) else ""


def _summary(wire: _Record) -> str:
    text = " ".join((wire.summary or wire.details or "").split())
    return text if len(text) <= _MAX_SUMMARY else f"{text[: _MAX_SUMMARY - 1]}…"
