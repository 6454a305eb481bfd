"""Own scan: which known vulnerabilities concern the components of a bill of materials.

Looked at is a component whose kind of advisories is known here and of whose ecosystem there are data. What was not
looked at is not counted, so that the policy sees that it was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pratique.core.clock import Clock
from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.advisories.matching import Match, lookup_of
from pratique.release.advisories.records import Advisory
from pratique.release.components import Component, read_components
from pratique.release.errors import EvidenceError
from pratique.release.evidence.interface import Image, Predicate
from pratique.release.predicates import SBOM, VULNERABILITIES, Scan, Scanner, ScanResult, Vulnerability
from pratique.release.statements import Statement

__all__ = ["SCANNER_URI", "VulnerabilityCollector", "require_sbom", "scan"]

SCANNER_URI: Final = "urn:pratique:scanner:osv"


class VulnerabilityCollector:
    """Scans an image's bill of materials."""

    name = "vulnerabilities"

    def __init__(self, database: Path, sbom: Statement, clock: Clock) -> None:
        self._path = database
        self._sbom = sbom
        self._clock = clock

    def collect(self, image: Image) -> Predicate:
        """Look every component up.

        Raises:
            EvidenceError: the bill of materials is none, or is about another image.
            AdvisoryDatabaseError: there is no database to look things up in.
        """
        require_sbom(self._sbom, image)
        with AdvisoryDatabase(self._path) as database:
            return Predicate(VULNERABILITIES, scan(self._sbom, database, self._clock), (self._sbom.digest,))


def require_sbom(sbom: Statement, image: Image) -> None:
    """Check that a statement is the bill of materials of an image.

    Raises:
        EvidenceError: it is something else, or about another image.
    """
    if sbom.predicate_type != SBOM:
        raise EvidenceError(f"expected a bill of materials ({SBOM}), got a statement of type '{sbom.predicate_type}'")
    if image.subject.digest not in sbom.subjects:
        about = ", ".join(sbom.subjects)
        raise EvidenceError(f"the bill of materials is about {about}, expected {image.subject.digest}")


def scan(sbom: Statement, database: AdvisoryDatabase, clock: Clock) -> Scan:
    """Look up every component of a bill of materials.

    Raises:
        EvidenceError: it cannot be read.
    """
    started_at = _moment(clock)
    looked_at: list[Component] = []
    found: list[Vulnerability] = []
    for component in read_components(sbom.predicate):
        lookup = lookup_of(component.purl)
        if lookup is None or not database.knows(lookup):
            continue
        looked_at.append(component)
        found += _vulnerabilities(component, database.matches(lookup))
    return Scan(
        scanner=Scanner(
            uri=SCANNER_URI,
            version=version("pratique"),
            database_digest=database.info.digest,
            database_updated_at=database.info.updated_at,
        ),
        result=ScanResult(
            sbom_digest=sbom.digest,
            num_components=sum(one.num_entries for one in looked_at),
            vulnerabilities=tuple(found),
        ),
        started_at=started_at,
        finished_at=_moment(clock),
    )


def _vulnerabilities(component: Component, matches: Iterable[Match]) -> Iterator[Vulnerability]:
    for one in matches:
        advisory = one.advisory
        yield Vulnerability(
            id=advisory.id,
            aliases=_aliases(advisory),
            package=component.purl.text,
            severity=advisory.severity,
            severity_from=advisory.severity_from,
            fixed_in=one.judgement.fixed_in,
            is_undetermined=one.judgement.verdict == "undetermined",
            summary=advisory.summary,
        )


def _aliases(advisory: Advisory) -> tuple[str, ...]:
    """Return the other names of the vulnerability.

    What a distribution's advisory is about is the same vulnerability where it is one alone. Of several none is: who
    states that one of them does not concern an image has said nothing about the others.
    """
    return (*advisory.aliases, *(advisory.upstream if len(advisory.upstream) == 1 else ()))


def _moment(clock: Clock) -> datetime:
    return datetime.fromtimestamp(int(clock.epoch()), UTC)
