"""Reports of other scanners, read as scans: Trivy's and Grype's JSON. Pure.

A report is accepted where it says itself that it is about the image, by the manifest's digest or the configuration's.
Severities are the scanner's words; what is not known here stays unknown. What the scanner was told to ignore is counted
all the same: only a statement of exploitability exempts. Sources: Trivy's report schema 2, Grype's `-o json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import msgspec

from pratique.release.advisories.severity import severity_of_word
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError
from pratique.release.predicates import Instant, Scan, Scanner, ScanResult, Vulnerability
from pratique.release.statements import Statement
from pratique.release.values import Digest, digest_of

__all__ = ["ReportOf", "read_report"]

MAX_REPORT_BYTES: Final = 256 * 1024 * 1024
_TRIVY: Final = "https://github.com/aquasecurity/trivy"
_TRIVY_CLASSES: Final = frozenset({"os-pkgs", "lang-pkgs"})
"""Of results that a scan for vulnerabilities alone has."""
_GRYPE: Final = "https://github.com/anchore/grype"


@dataclass(frozen=True, slots=True)
class ReportOf:
    """What a report must be about, and what it does not say itself."""

    image: Digest
    config: bytes
    """The image's configuration: scanners name images by its digest."""
    sbom: Statement
    database_updated_at: datetime | None = None
    """Where the report does not say how old the scanner's database was."""
    num_components: int | None = None
    """Where the report does not say how many packages were looked at."""


class _TrivyIdentifier(msgspec.Struct, frozen=True):
    purl: str = msgspec.field(name="PURL", default="")


class _TrivyPackage(msgspec.Struct, frozen=True):
    identifier: _TrivyIdentifier | None = msgspec.field(name="Identifier", default=None)


class _TrivyFinding(msgspec.Struct, frozen=True, rename="pascal"):
    vulnerability_id: str = msgspec.field(name="VulnerabilityID")
    pkg_name: str
    severity: str = ""
    installed_version: str = ""
    fixed_version: str = ""
    title: str = ""
    pkg_identifier: _TrivyIdentifier | None = None


class _TrivyModified(msgspec.Struct, frozen=True, rename="pascal"):
    type: str
    finding: msgspec.Raw


class _TrivyResult(msgspec.Struct, frozen=True, rename="pascal"):
    target: str
    class_: str = msgspec.field(name="Class", default="")
    packages: tuple[_TrivyPackage, ...] | None = None
    vulnerabilities: tuple[_TrivyFinding, ...] | None = None
    experimental_modified_findings: tuple[_TrivyModified, ...] | None = None


class _TrivyMetadata(msgspec.Struct, frozen=True):
    image_id: str = msgspec.field(name="ImageID", default="")
    repo_digests: tuple[str, ...] | None = msgspec.field(name="RepoDigests", default=None)


class _TrivyVersion(msgspec.Struct, frozen=True, rename="pascal"):
    version: str = ""


class _TrivyReport(msgspec.Struct, frozen=True, rename="pascal"):
    schema_version: Literal[2]
    created_at: Instant
    artifact_name: str
    metadata: _TrivyMetadata
    results: tuple[_TrivyResult, ...] | None = None
    trivy: _TrivyVersion = _TrivyVersion()


class _GrypeFix(msgspec.Struct, frozen=True):
    versions: tuple[str, ...] | None = None


class _GrypeVulnerability(msgspec.Struct, frozen=True):
    id: str
    severity: str = ""
    description: str = ""
    fix: _GrypeFix = _GrypeFix()


class _GrypeArtifact(msgspec.Struct, frozen=True):
    name: str
    version: str
    purl: str = ""


class _GrypeMatch(msgspec.Struct, frozen=True, rename="camel"):
    vulnerability: _GrypeVulnerability
    artifact: _GrypeArtifact
    related_vulnerabilities: tuple[_GrypeVulnerability, ...] | None = None


class _GrypeTarget(msgspec.Struct, frozen=True):
    image_id: str = msgspec.field(name="imageID", default="")
    manifest_digest: str = msgspec.field(name="manifestDigest", default="")
    repo_digests: tuple[str, ...] | None = msgspec.field(name="repoDigests", default=None)


class _GrypeSource(msgspec.Struct, frozen=True):
    type: str
    target: msgspec.Raw


class _GrypeStatus(msgspec.Struct, frozen=True):
    built: Instant | None = None


class _GrypeDatabase(msgspec.Struct, frozen=True):
    built: Instant | None = None
    status: _GrypeStatus | None = None


class _GrypeDescriptor(msgspec.Struct, frozen=True):
    name: Literal["grype"]
    version: str
    timestamp: Instant
    db: _GrypeDatabase | None = None


class _GrypeReport(msgspec.Struct, frozen=True, rename="camel"):
    matches: tuple[_GrypeMatch, ...]
    source: _GrypeSource
    descriptor: _GrypeDescriptor
    ignored_matches: tuple[_GrypeMatch, ...] | None = None


def read_report(content: bytes, about: ReportOf) -> Scan:
    """Read a report of Trivy or Grype.

    Raises:
        EvidenceError: it is neither, or is not about the image.
    """
    try:
        members = decode_json(content, dict[str, msgspec.Raw], max_bytes=MAX_REPORT_BYTES)
        if "SchemaVersion" in members:
            return _trivy(decode_json(content, _TrivyReport, max_bytes=MAX_REPORT_BYTES), about)
        if "matches" in members:
            return _grype(decode_json(content, _GrypeReport, max_bytes=MAX_REPORT_BYTES), about)
    except MalformedError as error:
        raise EvidenceError(f"the scanner's report is malformed: {error}") from error
    raise EvidenceError(
        "expected a report of Trivy (schema 2) or Grype in JSON, got something else",
        hint="trivy image --scanners vuln --list-all-pkgs --format json …; grype -o json …",
    )


def _trivy(report: _TrivyReport, about: ReportOf) -> Scan:
    _require_about(report.metadata.image_id, report.metadata.repo_digests or (), about)
    results = report.results or ()
    others = sorted({one.class_ for one in results} - _TRIVY_CLASSES)
    if others:
        raise EvidenceError(
            f"the report also holds results of the class {', '.join(others)}: it does not say whether vulnerabilities"
            " were looked for at all",
            hint="Scan for them alone: trivy image --scanners vuln --list-all-pkgs --format json …",
        )
    listed = sum(bool(one.identifier and one.identifier.purl) for result in results for one in result.packages or ())
    return Scan(
        scanner=Scanner(
            uri=_TRIVY, version=report.trivy.version or "unknown", database_updated_at=about.database_updated_at
        ),
        result=ScanResult(
            sbom_digest=about.sbom.digest,
            num_components=listed or about.num_components or 0,
            vulnerabilities=tuple(_trivy_finding(one) for result in results for one in _trivy_findings(result)),
        ),
        started_at=report.created_at,
        finished_at=report.created_at,
    )


def _trivy_findings(result: _TrivyResult) -> Iterator[_TrivyFinding]:
    yield from result.vulnerabilities or ()
    for one in result.experimental_modified_findings or ():
        if one.type == "vulnerability":
            yield decode_json(one.finding, _TrivyFinding)


def _trivy_finding(one: _TrivyFinding) -> Vulnerability:
    purl = one.pkg_identifier.purl if one.pkg_identifier else ""
    severity = severity_of_word(one.severity)
    return Vulnerability(
        id=one.vulnerability_id,
        package=purl or f"{one.pkg_name}@{one.installed_version}",
        severity=severity,
        severity_from="trivy" if severity != "unknown" else "",
        fixed_in=tuple(filter(None, (fix.strip() for fix in one.fixed_version.split(",")))),
        summary=one.title,
    )


def _grype(report: _GrypeReport, about: ReportOf) -> Scan:
    if report.source.type != "image":
        raise EvidenceError(f"the report is about a source of the type '{report.source.type}', expected an image")
    target = decode_json(report.source.target, _GrypeTarget)
    _require_about(target.image_id, (target.manifest_digest, *(target.repo_digests or ())), about)
    matches = (*report.matches, *(report.ignored_matches or ()))
    database = report.descriptor.db or _GrypeDatabase()
    built = database.built or (database.status.built if database.status else None)
    return Scan(
        scanner=Scanner(
            uri=_GRYPE, version=report.descriptor.version, database_updated_at=built or about.database_updated_at
        ),
        result=ScanResult(
            sbom_digest=about.sbom.digest,
            num_components=about.num_components or 0,  # it names only those in which it found something
            vulnerabilities=tuple(map(_grype_finding, matches)),
        ),
        started_at=report.descriptor.timestamp,
        finished_at=report.descriptor.timestamp,
    )


def _grype_finding(one: _GrypeMatch) -> Vulnerability:
    severity = severity_of_word(one.vulnerability.severity)
    # One related record is the same vulnerability under another name; of several it need not be.
    related = tuple(other.id for other in one.related_vulnerabilities or () if other.id != one.vulnerability.id)
    return Vulnerability(
        id=one.vulnerability.id,
        aliases=related if len(related) == 1 else (),
        package=one.artifact.purl or f"{one.artifact.name}@{one.artifact.version}",
        severity=severity,
        severity_from="grype" if severity != "unknown" else "",
        fixed_in=tuple(one.vulnerability.fix.versions or ()),
        summary=one.vulnerability.description,
    )


def _require_about(image_id: str, names: tuple[str, ...], about: ReportOf) -> None:
    """Refuse a report that does not name the image by a digest."""
    config = digest_of(about.config)
    named = {image_id, *(name.rpartition("@")[2] for name in names)} - {""}
    if named.isdisjoint({about.image, config}):
        raise EvidenceError(
            f"the report is about {', '.join(sorted(named)) or 'no image that it names'}, expected the image"
            f" {about.image}, or its configuration {config}",
            hint="Scan the image by its digest.",
        )
