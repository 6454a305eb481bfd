"""Own scans: what was looked at is counted, what may concern a component is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.release.advisories.osv_records import affected, events, record
from tests.unit.release.evidence.images_made import deb, make_image, pypi, sbom_of

from pratique.core.clock import ManualClock
from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.advisories.errors import AdvisoryDatabaseError
from pratique.release.advisories.importing import ImportRequest, import_advisories
from pratique.release.errors import EvidenceError
from pratique.release.evidence.vulnerabilities import SCANNER_URI, VulnerabilityCollector, scan
from pratique.release.predicates import HYGIENE, Scan
from pratique.release.statements import make_statement
from pratique.release.values import Digest

pytestmark = pytest.mark.unit

IMAGE = Digest("sha256:" + "1" * 64)
NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advisories")
    openssl = affected(events("introduced 0", "fixed 3.0.13-1"), name="openssl", ecosystem="Debian:12")
    records = [
        record("PYSEC-1", affected(events("introduced 0", "fixed 1.3"), name="left-pad"), aliases=["CVE-1"]),
        record("GHSA-1", database_specific={"severity": "HIGH"}, aliases=["CVE-1"]),
        record("PYSEC-2", affected(events("introduced 0", "fixed ?"), name="left-pad")),
        record("DEBIAN-CVE-3", openssl, upstream=["CVE-3"]),
        record("DSA-4-1", openssl, upstream=["CVE-4", "CVE-5"]),
    ]
    (folder / "osv").mkdir()
    for number, one in enumerate(records):
        (folder / "osv" / f"{number}.json").write_bytes(one)
    import_advisories(ImportRequest((folder / "osv",), folder / "advisories.db", NOW))
    return folder / "advisories.db"


def scanned(database: Path, *components: dict[str, Any]) -> Scan:
    with AdvisoryDatabase(database) as opened:
        return scan(sbom_of(IMAGE, *components), opened, ManualClock())


def test_what_concerns_a_component_is_told_with_its_names_and_fix(database: Path) -> None:
    found = scanned(database, pypi("Left_Pad", "1.2")).result.vulnerabilities
    assert [(one.id, one.aliases, one.severity, one.severity_from, one.fixed_in) for one in found] == [
        ("PYSEC-1", ("CVE-1",), "high", "GHSA-1", ("1.3",)),
        ("PYSEC-2", (), "unknown", "", ("?",)),
    ]
    assert [one.is_undetermined for one in found] == [False, True]
    assert {one.package for one in found} == {"pkg:pypi/Left_Pad@1.2"}


def test_debian_is_looked_up_by_its_source_package(database: Path) -> None:
    found = scanned(database, deb("libssl3", "3.0.11-1~deb12u2", upstream="openssl")).result.vulnerabilities
    assert [one.id for one in found] == ["DEBIAN-CVE-3", "DSA-4-1"]


def test_an_advisory_about_several_vulnerabilities_is_an_alias_of_none(database: Path) -> None:
    # Otherwise a statement that CVE-4 does not concern the image would hide CVE-5.
    found = scanned(database, deb("openssl", "3.0.11-1")).result.vulnerabilities
    assert {one.id: one.aliases for one in found} == {"DEBIAN-CVE-3": ("CVE-3",), "DSA-4-1": ()}


def test_only_what_there_are_data_about_counts_as_looked_at(database: Path) -> None:
    bare = {"type": "library", "name": "x", "purl": "pkg:npm/x@1"}
    result = scanned(
        database, pypi("a", "1"), deb("b", "1"), deb("b", "1"), deb("c", "1", distro="debian-11"), bare
    ).result
    assert result.num_components == 3
    assert result.vulnerabilities == ()


def test_a_scan_says_by_what_and_when(database: Path) -> None:
    found = scanned(database, pypi("a", "1"))
    assert found.scanner.uri == SCANNER_URI
    assert found.scanner.database_updated_at == datetime(2024, 5, 1, tzinfo=UTC)
    assert found.scanner.database_digest is not None
    assert found.started_at == found.finished_at == datetime.fromtimestamp(1_700_000_000, UTC)


def test_the_collector_takes_the_bill_of_this_image_only(database: Path, tmp_path: Path) -> None:
    image = make_image(tmp_path)
    own = sbom_of(image.subject.digest, pypi("left-pad", "1.0"))
    predicate = VulnerabilityCollector(database, own, ManualClock()).collect(image)
    assert predicate.depends_on == (own.digest,)
    assert isinstance(predicate.content, Scan)
    assert predicate.content.result.sbom_digest == own.digest
    with pytest.raises(EvidenceError, match=f"is about {IMAGE}"):
        VulnerabilityCollector(database, sbom_of(IMAGE, pypi("a", "1")), ManualClock()).collect(image)
    other = make_statement(image.subject.digest, HYGIENE, {})
    with pytest.raises(EvidenceError, match="expected a bill of materials"):
        VulnerabilityCollector(database, other, ManualClock()).collect(image)


def test_without_a_database_it_is_not_decided(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    own = sbom_of(image.subject.digest, pypi("a", "1"))
    with pytest.raises(AdvisoryDatabaseError):
        VulnerabilityCollector(tmp_path / "none.db", own, ManualClock()).collect(image)


def test_a_statement_of_a_scan_reads_back(database: Path) -> None:
    content = scanned(database, pypi("left-pad", "1.2"))
    statement = make_statement(IMAGE, "https://cosign.sigstore.dev/attestation/vuln/v1", content)
    assert statement.read(Scan) == content
    assert "scanFinishedOn" in json.loads(statement.predicate)
