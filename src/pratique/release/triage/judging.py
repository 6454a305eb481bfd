"""Which of the index's components some advisories concern, by the advisories room's matching. Pure.

A component whose release is not known, whose version cannot be compared, or about which a record says nothing that can
be evaluated, is undetermined: it counts as affected, and is said to be undetermined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pratique.release.advisories.matching import Judgement, Lookup, match
from pratique.release.advisories.records import Advisory
from pratique.release.triage.index import Kept

__all__ = ["Concerned", "judge_components", "names_of"]


@dataclass(frozen=True, slots=True)
class Concerned:
    """A component that an advisory concerns, or may."""

    component: Kept
    advisory: Advisory
    judgement: Judgement


def names_of(advisories: Iterable[Advisory]) -> tuple[tuple[str, str], ...]:
    """Return the packages that advisories are about, as the index has them: family and name; each once."""
    return tuple(
        dict.fromkeys(
            (one.ecosystem.partition(":")[0], one.name)
            for advisory in advisories
            if advisory.withdrawn is None
            for one in advisory.affected
        )
    )


def judge_components(components: Sequence[Kept], advisories: Sequence[Advisory]) -> list[Concerned]:
    """Return which components some advisories concern, or may; withdrawn ones never do."""
    return [concerned for component in components for concerned in _judge(component, advisories)]


def _judge(component: Kept, advisories: Sequence[Advisory]) -> list[Concerned]:
    if component.ecosystem and component.version:
        lookup = Lookup((component.ecosystem, component.family), component.name, component.version)
        return [Concerned(component, one.advisory, one.judgement) for one in match(lookup, advisories)]
    # Of which release or version it is nobody knows: it may be affected, whatever the record says of one of them.
    return [
        Concerned(component, one, Judgement("undetermined"))
        for one in advisories
        if (component.family, component.name) in names_of((one,))
    ]
