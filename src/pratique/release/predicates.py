"""What our statements say: one type for each kind of evidence, as it stands in the signed predicate.

Collectors write these, the policy reads them, audit and triage show them. A member that is not known here makes the
predicate malformed, and malformed evidence blocks: whoever signs something newer than we read did not sign for us.

Foreign kinds keep their own form: an SBOM is a CycloneDX document, provenance is SLSA v1, the scan is wrapped as cosign
wraps it, exploitability is OpenVEX.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from pratique.release.values import Digest

__all__ = [
    "APPROVAL",
    "CANARY",
    "DECISION",
    "DEPENDENCY_DIFF",
    "DEPENDENCY_REVIEW",
    "EVALUATION",
    "HYGIENE",
    "PROVENANCE",
    "RELEASE",
    "SBOM",
    "VEX",
    "VULNERABILITIES",
    "Approval",
    "Canary",
    "Change",
    "Check",
    "DependencyDiff",
    "DependencyReview",
    "Evaluation",
    "Finding",
    "Hygiene",
    "Instant",
    "MetricVerdict",
    "Scan",
    "ScanResult",
    "Scanner",
    "Severity",
    "Vulnerability",
]

SBOM: Final = "https://cyclonedx.org/bom"
"""A CycloneDX document in JSON (ECMA-424)."""
VULNERABILITIES: Final = "https://cosign.sigstore.dev/attestation/vuln/v1"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
VEX: Final = "https://openvex.dev/ns/v0.2.0"
RELEASE: Final = "https://sigstore.dev/cosign/sign/v1"
"""The signature of an image itself; its predicate is empty."""
DEPENDENCY_DIFF: Final = "urn:pratique:predicate:dependency-diff:v1"
DEPENDENCY_REVIEW: Final = "urn:pratique:predicate:dependency-review:v1"
HYGIENE: Final = "urn:pratique:predicate:hygiene:v1"
EVALUATION: Final = "urn:pratique:predicate:evaluation:v1"
APPROVAL: Final = "urn:pratique:predicate:approval:v1"
CANARY: Final = "urn:pratique:predicate:canary:v1"
DECISION: Final = "urn:pratique:predicate:decision:v1"
"""What the gate decided, as `policy.decision` has it: for those who cannot ask the gate, a model server for one."""

Severity = Literal["none", "low", "medium", "high", "critical", "unknown"]
"""By the CVSS base score's rating; "unknown" blocks like "critical"."""


Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""With its offset: what has none is no instant, and malformed."""


class _Predicate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what we write ourselves."""


class Vulnerability(_Predicate, frozen=True, kw_only=True):
    """One advisory that concerns one component of the image."""

    id: str
    """As the database names it: PYSEC-…, CVE-…, DSA-…, GHSA-…."""
    aliases: tuple[str, ...] = ()
    package: str
    """The component's purl, with its version."""
    severity: Severity
    severity_from: str = ""
    """Where the severity was taken from: the record itself, or the alias that has one."""
    fixed_in: tuple[str, ...] = ()
    is_undetermined: bool = False
    """The version, or the record's range, could not be compared: counts as affected."""
    summary: str = ""


class Scanner(_Predicate, frozen=True, kw_only=True):
    """Who looked, and with which knowledge."""

    uri: str
    version: str
    database_digest: Digest | None = None
    database_updated_at: Instant | None = None


class ScanResult(_Predicate, frozen=True, kw_only=True):
    """What a scan found. `num_components` counts what was looked at; 0 means that nothing was."""

    sbom_digest: Digest
    """The statement of the SBOM that was scanned."""
    num_components: int
    vulnerabilities: tuple[Vulnerability, ...] = ()


class Scan(_Predicate, frozen=True, kw_only=True):
    """A vulnerability scan, in the shape of cosign's vuln/v1: `scanner` and `metadata` are its, `result` is ours."""

    scanner: Scanner
    result: ScanResult
    started_at: Instant = msgspec.field(name="scanStartedOn")
    finished_at: Instant = msgspec.field(name="scanFinishedOn")


class Change(_Predicate, frozen=True, kw_only=True):
    """A component that differs between two releases."""

    package: str
    """The purl without its version."""
    before: str | None = None
    """The version in the release before; None: it is new."""
    after: str | None = None
    """None: it was removed."""
    licences_before: tuple[str, ...] = ()
    """SPDX expressions."""
    licences_after: tuple[str, ...] = ()


class DependencyDiff(_Predicate, frozen=True, kw_only=True):
    """How the components differ from the release in production."""

    baseline: Digest | None
    """The image compared with; None: there is none in production, everything is new."""
    baseline_sbom: Digest | None = None
    sbom: Digest
    changes: tuple[Change, ...] = ()


class DependencyReview(_Predicate, frozen=True, kw_only=True):
    """Somebody looked at a diff and takes it upon themselves."""

    diff: Digest
    """The statement of the diff that was reviewed; another diff is not reviewed."""
    accepted: tuple[str, ...]
    """The purls, without version, that are accepted."""
    reason: str


class Finding(_Predicate, frozen=True, kw_only=True):
    """One thing that hygiene has to say."""

    rule: str
    level: Literal["error", "warning", "note"]
    where: str
    """A path in a layer, an instruction, a member of the configuration."""
    message: str


class Hygiene(_Predicate, frozen=True, kw_only=True):
    """What an image carries that it should not."""

    findings: tuple[Finding, ...] = ()
    checked: tuple[str, ...]
    """The rules that ran: what did not run was not found clean."""
    size_bytes: int
    """Compressed, as it is pulled."""
    wasted_bytes: int
    """Written in one layer, overwritten or deleted in a later one; uncompressed."""


class Check(_Predicate, frozen=True, kw_only=True):
    """One measured thing of an evaluation, against its threshold."""

    name: str
    value: float
    threshold: float
    at: Literal["least", "most"]
    """Whether the value must be at least or at most the threshold."""
    passed: bool
    num_samples: int


class Evaluation(_Predicate, frozen=True, kw_only=True):
    """What a model answered to a golden set."""

    model: str
    golden_set: Digest
    checks: tuple[Check, ...]


class Approval(_Predicate, frozen=True, kw_only=True):
    """A named person lets an artifact go somewhere. The name is the signer's, never what stands in here."""

    environment: str
    """Where to, for example "production"."""
    evidence: tuple[Digest, ...]
    """The statements that the person had before them."""
    expires_at: Instant
    reason: str = ""
    is_break_glass: bool = False


class MetricVerdict(_Predicate, frozen=True, kw_only=True):
    """What a canary's statistics say of one metric."""

    metric: str
    verdict: Literal["pass", "fail", "inconclusive"]
    num_old: int
    num_new: int
    p_value: float | None
    reason: str


class Canary(_Predicate, frozen=True, kw_only=True):
    """How a new release did beside the old one, under the same load."""

    baseline: Digest
    verdict: Literal["pass", "fail", "inconclusive"]
    metrics: tuple[MetricVerdict, ...]
    share: float
    """Of the traffic, 0 to 1."""
    started_at: Instant
    ended_at: Instant
