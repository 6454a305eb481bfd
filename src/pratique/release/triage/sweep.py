"""The whole advisory set against the whole index: which advisories concern which components, and how many images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.triage.index import Kept, TriageIndex
from pratique.release.triage.judging import Concerned, judge_components

__all__ = ["Swept", "sweep"]


@dataclass(frozen=True, slots=True)
class Swept:
    """An advisory, and what it concerns in the index."""

    advisory: str
    severity: str
    components: tuple[str, ...]
    is_undetermined: bool
    """Of none of them it is sure."""
    num_images: int


def sweep(index: TriageIndex, database: AdvisoryDatabase) -> list[Swept]:
    """Return the advisories that concern anything, by their ids.

    Raises:
        UnavailableError: the index or the database cannot be read.
    """
    by_advisory: dict[str, list[Concerned]] = {}
    for one in _concerned(index, database):
        by_advisory.setdefault(one.advisory.id, []).append(one)
    counted: dict[tuple[int, ...], int] = {}  # many advisories concern the same components
    found = []
    for name, group in sorted(by_advisory.items()):
        components = tuple(sorted(one.component.id for one in group))
        if components not in counted:
            counted[components] = index.num_with(components)
        found.append(
            Swept(
                advisory=name,
                severity=group[0].advisory.severity,
                components=tuple(sorted(one.component.purl for one in group)),
                is_undetermined=all(one.judgement.verdict == "undetermined" for one in group),
                num_images=counted[components],
            )
        )
    return found


def _concerned(index: TriageIndex, database: AdvisoryDatabase) -> Iterator[Concerned]:
    for (family, name), some in itertools.groupby(list(index.components()), key=lambda one: (one.family, one.name)):
        group = list(some)
        ecosystems = dict.fromkeys([*(one.ecosystem for one in group if one.ecosystem), *_releases(group, database)])
        advisories = database.about([*ecosystems, family], name)
        if advisories:
            yield from judge_components(group, advisories)


def _releases(group: list[Kept], database: AdvisoryDatabase) -> list[str]:
    """Return all releases of a family where one component's is not known: any of them may be its."""
    if all(one.ecosystem for one in group):
        return []
    return [one for one in database.info.ecosystems if one.partition(":")[0] == group[0].family]
