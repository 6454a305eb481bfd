"""Reports of Trivy and Grype are taken for the image that they name, and for nothing they do not say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.release.evidence.images_made import pypi, sbom_of

from pratique.release.errors import EvidenceError
from pratique.release.evidence import reports
from pratique.release.evidence.reports import ReportOf, read_report
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

IMAGE = Digest("sha256:" + "1" * 64)
CONFIG = b'{"os": "linux"}'
ABOUT = ReportOf(IMAGE, CONFIG, sbom_of(IMAGE, pypi("a", "1")))
PURL = "pkg:pypi/left-pad@1.2"
WHEN = "2024-06-01T10:00:00.123456789Z"


def trivy(**more: Any) -> dict[str, Any]:
    finding = {
        "VulnerabilityID": "CVE-1",
        "PkgName": "left-pad",
        "InstalledVersion": "1.2",
        "FixedVersion": "1.3, 2.0",
        "Severity": "CRITICAL",
        "Title": "bad",
        "PkgIdentifier": {"PURL": PURL, "UID": "1"},
    }
    packages = [{"Name": "left-pad", "Identifier": {"PURL": PURL}}, {"Name": "no purl", "Identifier": {}}]
    results = [
        {"Target": "python", "Class": "lang-pkgs", "Packages": packages, "Vulnerabilities": [finding]},
        {"Target": "debian", "Class": "os-pkgs"},
    ]
    return {
        "SchemaVersion": 2,
        "CreatedAt": WHEN,
        "ArtifactName": "chat",
        "ArtifactType": "container_image",
        "Metadata": {"ImageID": digest_of(CONFIG), "RepoDigests": [f"registry.example/chat@{IMAGE}"]},
        "Results": results,
    } | more


def grype(**more: Any) -> dict[str, Any]:
    match = {
        "vulnerability": {"id": "GHSA-1", "severity": "High", "fix": {"versions": ["1.3"], "state": "fixed"}},
        "relatedVulnerabilities": [{"id": "CVE-1", "severity": "Critical"}],
        "artifact": {"name": "left-pad", "version": "1.2", "type": "python", "purl": PURL},
    }
    target = {"userInput": "chat", "imageID": digest_of(CONFIG), "manifestDigest": IMAGE, "repoDigests": []}
    return {
        "matches": [match],
        "source": {"type": "image", "target": target},
        "descriptor": {
            "name": "grype",
            "version": "0.87.0",
            "timestamp": "2024-06-01T10:00:00+02:00",
            "db": {"built": "2024-06-01T01:00:00Z", "schemaVersion": 5},
        },
    } | more


def read(report: dict[str, Any], about: ReportOf = ABOUT) -> Any:
    return read_report(json.dumps(report).encode(), about)


OTHER = "sha256:" + "2" * 64


@pytest.mark.parametrize(
    "report",
    [
        trivy(Metadata={"ImageID": OTHER, "RepoDigests": [f"registry.example/chat@{OTHER}"]}),
        trivy(Metadata={}),
        trivy(Metadata={"RepoDigests": None, "RepoTags": ["chat:latest"]}),
        grype(source={"type": "image", "target": {"imageID": OTHER, "manifestDigest": OTHER}}),
        grype(source={"type": "image", "target": {"userInput": f"chat@{IMAGE}"}}),
        grype(source={"type": "directory", "target": "/"}),
    ],
)
def test_a_report_about_something_else_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="the report is about"):
        read(report)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"a":"\xff"}',
        b'{"matches":' + b"[" * 100_000,
        json.dumps(trivy(SchemaVersion=3)).encode(),
        json.dumps(trivy(CreatedAt="2024-06-01T10:00:00")).encode(),
        json.dumps(
            trivy(Results=[{"Target": "x", "Class": "os-pkgs", "Vulnerabilities": [{"Severity": "LOW"}]}])
        ).encode(),
        json.dumps(grype(matches=[{}])).encode(),
        json.dumps(grype(descriptor={"name": "other"})).encode(),
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_is_no_report_is_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_report(content, ABOUT)


def test_a_report_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_REPORT_BYTES", 1)
    with pytest.raises(EvidenceError, match="at most 1 are read"):
        read(trivy())


def test_trivys_findings_are_taken_over() -> None:
    scan = read(trivy())
    (one,) = scan.result.vulnerabilities
    assert (one.id, one.package, one.severity, one.fixed_in) == ("CVE-1", PURL, "critical", ("1.3", "2.0"))
    assert scan.result.num_components == 1
    assert scan.result.sbom_digest == ABOUT.sbom.digest
    assert scan.scanner.database_updated_at is None
    assert scan.finished_at == datetime(2024, 6, 1, 10, 0, 0, 123457, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["license", "secret", "config", ""])
def test_a_report_of_other_scanners_of_trivy_is_refused(kind: str) -> None:
    # Made with `--scanners license --list-all-pkgs` it lists every package, and looked for no vulnerability in any.
    with pytest.raises(EvidenceError, match="whether vulnerabilities were looked for"):
        read(trivy(Results=[*trivy()["Results"], {"Target": "x", "Class": kind}]))


def test_trivys_report_without_packages_says_that_nothing_was_looked_at() -> None:
    assert read(trivy(Results=None)).result.num_components == 0
    assert read(trivy(Results=[{"Target": "x", "Class": "os-pkgs", "Packages": None}])).result.num_components == 0


def test_what_trivy_was_told_to_ignore_is_counted() -> None:
    finding = {"VulnerabilityID": "CVE-2", "PkgName": "b", "InstalledVersion": "1", "Severity": "LOW"}
    ignored = [
        {"Type": "vulnerability", "Status": "ignored", "Finding": finding},
        {"Type": "secret", "Status": "ignored", "Finding": {}},
    ]
    scan = read(trivy(Results=[{"Target": "x", "Class": "os-pkgs", "ExperimentalModifiedFindings": ignored}]))
    assert [(one.id, one.package) for one in scan.result.vulnerabilities] == [("CVE-2", "b@1")]


def test_grypes_findings_are_taken_over() -> None:
    scan = read(grype(), ReportOf(IMAGE, CONFIG, ABOUT.sbom, num_components=98))
    (one,) = scan.result.vulnerabilities
    assert (one.id, one.aliases, one.severity, one.fixed_in) == ("GHSA-1", ("CVE-1",), "high", ("1.3",))
    assert scan.scanner.version == "0.87.0"
    assert scan.scanner.database_updated_at == datetime(2024, 6, 1, 1, tzinfo=UTC)
    assert scan.result.num_components == 98


def test_grype_does_not_say_how_much_it_looked_at() -> None:
    assert read(grype()).result.num_components == 0


def test_the_age_of_grypes_database_is_found_where_newer_versions_have_it() -> None:
    descriptor = grype()["descriptor"] | {"db": {"status": {"built": "2024-06-01T02:00:00Z"}}}
    assert read(grype(descriptor=descriptor)).scanner.database_updated_at.hour == 2
    without = grype()["descriptor"] | {"db": None}
    given = ReportOf(IMAGE, CONFIG, ABOUT.sbom, database_updated_at=datetime(2024, 5, 1, tzinfo=UTC))
    assert read(grype(descriptor=without), given).scanner.database_updated_at == datetime(2024, 5, 1, tzinfo=UTC)
    assert read(grype(descriptor=without)).scanner.database_updated_at is None


def test_what_grype_was_told_to_ignore_is_counted_and_several_related_names_are_no_aliases() -> None:
    one = grype()["matches"][0]
    ignored = one | {
        "relatedVulnerabilities": [{"id": "CVE-1"}, {"id": "CVE-2"}],
        "artifact": {"name": "b", "version": "1"},
    }
    scan = read(grype(ignoredMatches=[ignored]))
    assert [(found.package, found.aliases) for found in scan.result.vulnerabilities] == [
        (PURL, ("CVE-1",)),
        ("b@1", ()),
    ]


@pytest.mark.parametrize("word", ["Unknown", "", "Terrible"])
def test_a_severity_that_is_not_known_stays_unknown(word: str) -> None:
    one = grype()["matches"][0]
    match = one | {"vulnerability": {"id": "GHSA-1", "severity": word}}
    (found,) = read(grype(matches=[match])).result.vulnerabilities
    assert (found.severity, found.severity_from, found.fixed_in) == ("unknown", "", ())
