"""Runs the collectors of one image: the bill of materials first, then side by side what is made from it.

Each predicate becomes a statement about the image's digest. Where one collector fails the others still end; then the
failure is raised, and nothing is half collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pratique.core.clock import Clock
from pratique.core.errors import PratiqueError
from pratique.release.evidence.diff import DiffCollector
from pratique.release.evidence.interface import Collector, Image
from pratique.release.evidence.provenance import ProvenanceCollector
from pratique.release.evidence.sbom import SbomCollector, require_whole
from pratique.release.evidence.settings import EvidenceSettings
from pratique.release.evidence.vulnerabilities import VulnerabilityCollector, require_sbom
from pratique.release.statements import Statement, make_statement
from pratique.release.values import Digest

__all__ = ["Collected", "Plan", "collect_all", "run_collectors"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to collect, and from what."""

    settings: EvidenceSettings
    sbom: Statement | None = None
    """A bill of materials that was made before, and is held against the image again; None: one is made."""
    database: Path | None = None
    """Of advisories; None: nothing is scanned."""
    record: Path | None = None
    """Of the build; None: no provenance."""
    authors: tuple[str, ...] = ()
    """Who wrote the source, for the provenance."""
    compare: bool = False
    """Whether the components are compared with those of the baseline."""
    baseline: Digest | None = None
    """The image in production; None: there is none, and everything is new."""
    baseline_sbom: Statement | None = None
    others: tuple[Collector, ...] = ()
    """Collectors that need nothing but the image."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A piece of evidence, ready to be signed."""

    name: str
    statement: Statement


def collect_all(image: Image, plan: Plan, clock: Clock, *, say: Callable[[str], None]) -> tuple[Collected, ...]:
    """Collect what the plan names.

    Raises:
        PratiqueError: a collector failed; where several did, the first of them, with the others as notes.
    """
    first: list[Collector] = [*plan.others]
    if plan.sbom is None:
        first.insert(0, SbomCollector(plan.settings))
    else:
        require_sbom(plan.sbom, image)
        require_whole(plan.sbom.predicate, image)
    found = run_collectors(image, first, say=say)
    sbom = plan.sbom or next(one.statement for one in found if one.name == SbomCollector.name)
    return (*found, *run_collectors(image, list(_made_from(plan, sbom, clock)), say=say))


def _made_from(plan: Plan, sbom: Statement, clock: Clock) -> Iterator[Collector]:
    if plan.database is not None:
        yield VulnerabilityCollector(plan.database, sbom, clock)
    if plan.compare:
        yield DiffCollector(sbom, plan.baseline, plan.baseline_sbom)
    if plan.record is not None:
        yield ProvenanceCollector(plan.record, plan.authors, sbom)


def run_collectors(
    image: Image, collectors: Sequence[Collector], *, say: Callable[[str], None]
) -> tuple[Collected, ...]:
    """Run collectors side by side, and return what they found in their order.

    Raises:
        PratiqueError: as `collect_all`.
    """
    if not collectors:
        return ()
    failures: list[tuple[str, PratiqueError]] = []
    found: list[Collected] = []
    with ThreadPoolExecutor(len(collectors), thread_name_prefix="pratique-evidence") as pool:
        running = [(one.name, pool.submit(one.collect, image)) for one in collectors]
        for name, future in running:
            say(f"{name} …")
            try:
                predicate = future.result()
            except PratiqueError as error:
                failures.append((name, error))
                continue
            statement = make_statement(
                image.subject.digest, predicate.type, predicate.content, name=image.subject.repository
            )
            found.append(Collected(name, statement))
    if failures:
        _, first = failures[0]
        for name, other in failures[1:]:
            first.add_note(f"{name} failed too: {other}")
        raise first
    return tuple(found)
