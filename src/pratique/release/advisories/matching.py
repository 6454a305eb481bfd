"""Whether an advisory concerns a version. Pure.

Three answers: affected, unaffected, undetermined. Undetermined is a version or a range that cannot be compared; it is
never taken for unaffected. A version is affected where it lies in any range or stands in the list; a rebuild of another
version is what that one is. Source: OSV schema 1.7, "Evaluation".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pratique.release.advisories.records import Advisory, Affected, Event, Range
from pratique.release.advisories.versions import Key, Ordering, ordering_of
from pratique.release.components import Purl

__all__ = ["Judgement", "Lookup", "Match", "compact", "judge", "lookup_of", "match"]

Verdict = Literal["affected", "undetermined", "unaffected"]

# Where events meet at one version: what was fixed there and introduced anew is affected, and what was introduced there
# and last affected there is affected there alone.
_TURN: Final = {"fixed": 0, "introduced": 1, "last_affected": 2}


@dataclass(frozen=True, slots=True)
class Lookup:
    """Under which names advisories speak of a component, and of which version."""

    ecosystems: tuple[str, ...]
    """The one with its release first; records without a release hold for all."""
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one package of an advisory means for a version."""

    verdict: Verdict
    fixed_in: tuple[str, ...] = ()
    """The next versions in which it is mended, in order."""


@dataclass(frozen=True, slots=True)
class Match:
    """An advisory that concerns a component, or may."""

    advisory: Advisory
    judgement: Judgement


UNAFFECTED: Final = Judgement("unaffected")
UNDETERMINED: Final = Judgement("undetermined")


def lookup_of(purl: Purl) -> Lookup | None:
    """Say what to look a component up by; None: it has no version, or advisories of its kind are not known here.

    A Debian package is looked up where its URL says of which release it is: the same version may be mended in one and
    not in another.
    """
    if purl.type == "pypi" and purl.version:
        return Lookup(("PyPI",), _normal(purl.name), purl.version)
    if purl.type == "npm" and purl.version:
        return Lookup(("npm",), purl.name, purl.version)
    if purl.type == "deb" and purl.source_version:
        family, dash, release = purl.distribution.partition("-")
        if family == "debian" and dash and release:
            # A point release, "debian-12.5", has the advisories of its release.
            number = release.partition(".")[0]
            return Lookup((f"Debian:{number}", "Debian"), purl.source_name, purl.source_version)
    return None


@functools.lru_cache(maxsize=65_536)
def _normal(name: str) -> str:
    from pratique.release.advisories.records import package_name

    return package_name("PyPI", name)


def match(lookup: Lookup, advisories: Iterable[Advisory]) -> tuple[Match, ...]:
    """Return which of some advisories concern a component, or may; withdrawn ones never do. Sorted by their names."""
    found = []
    for advisory in advisories:
        if advisory.withdrawn is not None:
            continue
        judgement = _worst(
            [
                judge(one, lookup.version)
                for one in advisory.affected
                if one.name == lookup.name and one.ecosystem in lookup.ecosystems
            ]
        )
        if judgement is not UNAFFECTED:
            found.append(Match(advisory, judgement))
    return tuple(sorted(found, key=lambda one: one.advisory.id))


def judge(affected: Affected, version: str) -> Judgement:
    """Say what one package of an advisory means for a version of that package."""
    ordering = ordering_of(affected.ecosystem)
    if ordering is None:
        return Judgement("affected" if version in affected.versions else "undetermined")
    variants = ordering.variants(version)
    if len(variants) == 1:
        return _judge(affected, version, ordering)
    return _worst([_judge(affected, variant, ordering) for variant in variants])


def _judge(affected: Affected, version: str, ordering: Ordering) -> Judgement:
    key = ordering.key(version)
    judgements = [_in_range(one, key, ordering) for one in affected.ranges if one.type != "GIT"]
    if affected.versions:
        if _is_listed(affected.versions, version, key, ordering):
            judgements.append(Judgement("affected"))
        elif key is None:
            judgements.append(UNDETERMINED)
    elif not judgements:
        # Commits alone, or nothing at all: which versions those are nobody here can say.
        return UNDETERMINED
    return _worst(judgements)


def _is_listed(versions: tuple[str, ...], version: str, key: Key, ordering: Ordering) -> bool:
    """Whether a version is listed, in any spelling. What has no key only equals what is spelt the same."""
    return version in versions or (key is not None and key in _keys(versions, ordering))


@functools.lru_cache(maxsize=1024)
def _keys(versions: tuple[str, ...], ordering: Ordering) -> frozenset[Key]:
    return frozenset(key for one in versions if (key := ordering.key(one)) is not None)


def _worst(judgements: Sequence[Judgement]) -> Judgement:
    """Return the worst verdict, with the fixes that those of that verdict know."""
    if len(judgements) == 1:
        return judgements[0]
    # Nearly all are unaffected: what is slow is asked of the rest only.
    telling = [one for one in judgements if one is not UNAFFECTED]
    if len(telling) < 2:  # noqa: PLR2004 - none, or the only one
        return telling[0] if telling else UNAFFECTED
    verdict: Verdict = "affected" if any(one.verdict == "affected" for one in telling) else "undetermined"
    fixes = dict.fromkeys(fix for one in telling if one.verdict == verdict for fix in one.fixed_in)
    return Judgement(verdict, tuple(fixes))


def _in_range(one: Range, key: Key, ordering: Ordering) -> Judgement:
    timeline = None if key is None or one.problem else _timeline(one.events, ordering)
    if timeline is None:
        return Judgement("undetermined", tuple(event.version for event in one.events if event.kind == "fixed"))
    if timeline.limits and not any(key < limit for limit in timeline.limits):
        return UNAFFECTED
    is_affected = False
    for step in timeline.steps:
        if step.kind == "introduced":
            is_affected = is_affected or step.key is None or key >= step.key
        elif step.kind == "fixed":
            is_affected = is_affected and key < step.key
        else:
            is_affected = is_affected and key <= step.key
    if not is_affected:
        return UNAFFECTED
    return Judgement("affected", tuple(s.version for s in timeline.steps if s.kind == "fixed" and s.key > key)[:1])


@dataclass(frozen=True, slots=True)
class _Step:
    kind: str
    version: str
    key: Key
    """None: before every version."""


@dataclass(frozen=True, slots=True)
class _Timeline:
    steps: tuple[_Step, ...]
    limits: tuple[Key, ...]


@functools.lru_cache(maxsize=131_072)
def _timeline(events: tuple[Event, ...], ordering: Ordering) -> _Timeline | None:
    """Sort the events by version; None: one of them cannot be compared."""
    first: list[_Step] = []
    steps: list[_Step] = []
    limits: list[Key] = []
    is_limited = True
    for event in events:
        if event.kind == "introduced" and event.version == "0":
            first.append(_Step(event.kind, event.version, None))
        elif event.kind == "limit" and "*" in event.version:
            is_limited = False
        elif (key := ordering.key(event.version)) is None:
            return None
        elif event.kind == "limit":
            limits.append(key)
        else:
            steps.append(_Step(event.kind, event.version, key))
    steps.sort(key=lambda step: (step.key, _TURN[step.kind]))
    return _Timeline((*first, *steps), tuple(limits) if is_limited else ())


def compact(affected: Affected) -> Affected:
    """Leave out what changes no answer: listed versions that the ranges hold anyway, and commits beside versions."""
    ordering = ordering_of(affected.ecosystem)
    ranges = tuple(one for one in affected.ranges if one.type != "GIT")
    if ordering is None or not ranges:
        return affected
    kept = [
        version
        for version in affected.versions
        if not any(_in_range(one, ordering.key(version), ordering).verdict == "affected" for one in ranges)
    ]
    return Affected(affected.ecosystem, affected.name, ranges, tuple(kept))
