"""How long the service did not answer, and by which fault. Pure.

A probe that fails opens an outage at its beginning; the next one that succeeds closes it at its end. An outage belongs
to the episode (a fault, or some that overlap) that began last before it was noticed, for a probe may have been under
way when the fault came. The recovery time of an episode runs from its beginning to the end of its last outage: 0 where
no probe failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.drill.history import Silence
    from benchmarks.drill.nemesis import DoneFault

__all__ = ["Episode", "Outage", "Sample", "Summary", "find_outages", "make_episodes", "summarize"]

_TOGETHER: Final = "several at once"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One probe. Seconds since the load began."""

    question: str
    began: float
    ended: float
    is_ok: bool


@dataclass(frozen=True, kw_only=True)
class Outage:
    """For so long the service did not answer a question."""

    question: str
    began: float
    noticed: float
    """When the first probe failed."""
    ended: float


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One fault, or some that overlap, and what followed until the next."""

    faults: tuple[DoneFault, ...]
    outages: tuple[Outage, ...]
    longest_silence_seconds: float

    @property
    def began(self) -> float:
        return self.faults[0].began

    @property
    def label(self) -> str:
        return self.faults[0].fault.label if len(self.faults) == 1 else _TOGETHER

    @property
    def unavailable_seconds(self) -> float:
        """While at least one of the questions had no answer."""
        total, until = 0.0, 0.0
        for outage in sorted(self.outages, key=lambda outage: outage.began):
            total += max(0.0, outage.ended - max(outage.began, until, self.began))
            until = max(until, outage.ended)
        return total

    @property
    def recovery_seconds(self) -> float:
        return max((outage.ended for outage in self.outages), default=self.began) - self.began


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All episodes of one label."""

    label: str
    count: int
    unavailable_seconds: float
    """Of all together."""
    unavailable_median_seconds: float
    unavailable_max_seconds: float
    recovery_median_seconds: float
    recovery_max_seconds: float
    silence_max_seconds: float
    """The longest that a person waited for the next word of a running reply."""


def find_outages(samples: Sequence[Sample]) -> list[Outage]:
    """Return the outages, each question's for itself; one that never ended ends with the last sample."""
    found: list[Outage] = []
    for question in sorted({sample.question for sample in samples}):
        first: Sample | None = None
        mine = [sample for sample in samples if sample.question == question]
        for sample in mine:
            if first is None and not sample.is_ok:
                first = sample
            elif first is not None and (sample.is_ok or sample is mine[-1]):
                found.append(Outage(question=question, began=first.began, noticed=first.ended, ended=sample.ended))
                first = None
    return sorted(found, key=lambda outage: outage.began)


def make_episodes(
    done: Sequence[DoneFault], outages: Sequence[Outage], silences: Sequence[Silence] = ()
) -> tuple[Episode, ...]:
    """Put overlapping faults together, and to each what followed until the next."""
    groups: list[list[DoneFault]] = []
    until = 0.0
    for fault in sorted(done, key=lambda one: one.began):
        if groups and fault.began < until:
            groups[-1].append(fault)
        else:
            groups.append([fault])
        until = max(until, fault.ended)
    edges = [group[0].began for group in groups] + [math.inf]
    return tuple(
        Episode(
            faults=tuple(group),
            outages=tuple(one for one in outages if begin <= one.noticed < end),
            longest_silence_seconds=max(
                (one.seconds for one in silences if begin <= one.at - one.seconds < end), default=0.0
            ),
        )
        for group, begin, end in zip(groups, edges, edges[1:], strict=False)
    )


def summarize(episodes: Sequence[Episode]) -> list[Summary]:
    """Return the figures by label, the longest unavailability first."""
    found = []
    for label in {episode.label for episode in episodes}:
        group = [episode for episode in episodes if episode.label == label]
        gone = [episode.unavailable_seconds for episode in group]
        back = [episode.recovery_seconds for episode in group]
        found.append(
            Summary(
                label=label,
                count=len(group),
                unavailable_seconds=sum(gone),
                unavailable_median_seconds=median(gone),
                unavailable_max_seconds=max(gone),
                recovery_median_seconds=median(back),
                recovery_max_seconds=max(back),
                silence_max_seconds=max(episode.longest_silence_seconds for episode in group),
            )
        )
    return sorted(found, key=lambda summary: (-summary.unavailable_seconds, summary.label))
