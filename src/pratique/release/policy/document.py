"""The policy as it stands in `promotion.toml`: one type for each table.

What is written here is what a reviewer reads. Unknown keys are refused, there is no default that lets something
through, and whoever may sign something is named. `load` checks what types cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from pratique.release.policy.patterns import matches
from pratique.release.values import Digest, KeyIdentity, Signer

__all__ = [
    "EVIDENCE_RULES",
    "ApprovalsRule",
    "BreakGlass",
    "Builder",
    "CanaryRule",
    "CheckRule",
    "DependenciesRule",
    "Document",
    "EvaluationRule",
    "EvidenceRule",
    "HygieneRule",
    "Identity",
    "Policy",
    "ProvenanceRule",
    "Rules",
    "SbomRule",
    "SignatureRule",
    "SignerEntry",
    "VulnerabilitiesRule",
]

Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
"""Of `[signers]`."""
Sha256 = Annotated[Digest, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
Hours = Annotated[float, msgspec.Meta(gt=0, le=24 * 366)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]

EvidenceRule = Literal["sbom", "vulnerabilities", "provenance", "dependencies", "hygiene", "evaluation"]
EVIDENCE_RULES: Final[tuple[EvidenceRule, ...]] = (
    "sbom",
    "vulnerabilities",
    "provenance",
    "dependencies",
    "hygiene",
    "evaluation",
)


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table."""


class Identity(_Table, frozen=True, kw_only=True):
    """How a signer is recognised: by a key, or by a certificate's issuer and subject."""

    key: Sha256 | None = None
    """The fingerprint: SHA-256 of the public key's SubjectPublicKeyInfo in DER."""
    issuer: str | None = None
    """Exactly as it stands in the certificate; a pattern here would let others vouch."""
    subject: str | None = None
    """Exact, or with `*`, see `patterns`."""

    def matches(self, signer: Signer) -> bool:
        """Whether this is who signed."""
        if isinstance(signer, KeyIdentity):
            return self.key is not None and self.key == signer.key
        return (
            self.issuer is not None
            and self.subject is not None
            and self.issuer == signer.issuer
            and matches(self.subject, signer.subject)
        )


class SignerEntry(_Table, frozen=True, kw_only=True):
    """Somebody, or something, that signs. One entry is one party, however many identities it has."""

    identities: Annotated[tuple[Identity, ...], msgspec.Meta(min_length=1)]
    emails: tuple[str, ...] = ()
    """Under which a person writes commits: nobody approves their own."""


class _Rule(_Table, frozen=True, kw_only=True):
    """A rule that may be left out, or hold in some environments only."""

    environments: tuple[str, ...] = ()
    """Where it holds; empty: everywhere."""


class SignatureRule(_Table, frozen=True, kw_only=True):
    """Who may sign the image itself. Always required."""

    signers: Names


class SbomRule(_Rule, frozen=True, kw_only=True):
    """What a bill of materials has to have."""

    signers: Names
    min_components: Count
    """With a purl that has a version."""
    required_types: tuple[str, ...] = ()
    """Purl types that must occur, for example "deb" and "pypi": without them something was not looked at."""


class VulnerabilitiesRule(_Rule, frozen=True, kw_only=True):
    """What a scan may find, and how old it may be."""

    signers: Names
    max_severity: Literal["none", "low", "medium", "high"] = "medium"
    """The highest that passes. What is unknown or could not be compared never does."""
    max_scan_age_hours: Hours = 24.0
    max_database_age_hours: Hours = 48.0
    min_coverage: Share = 1.0
    """Of the SBOM's components with a purl, the share that the scanner must have looked at."""
    vex_authors: tuple[str, ...] = ()
    """Who may say that the image is not affected."""
    max_vex_age_hours: Hours = 24.0 * 90
    """A statement that was not renewed for so long says nothing more."""


class Builder(_Table, frozen=True, kw_only=True):
    """A builder, and who signs for it."""

    signer: str
    builder: str
    """`runDetails.builder.id`, exact or with `*`."""
    build_type: str
    """`buildDefinition.buildType`, exact."""


class ProvenanceRule(_Rule, frozen=True, kw_only=True):
    """Where an image may come from."""

    builders: Annotated[tuple[Builder, ...], msgspec.Meta(min_length=1)]
    repositories: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Of the sources, as `resolvedDependencies[].uri` begins before `@`: for example git+https://host/team/chat."""
    refs: tuple[str, ...] = ()
    """What may stand behind `@` there, exact or with `*`: branches and tags. Empty: anything, or nothing."""
    parameters: dict[str, tuple[str, ...]] = {}
    """The `externalParameters` that must be there, by dotted path, and the values that are accepted; "*" is any, within
    one segment."""
    optional_parameters: dict[str, tuple[str, ...]] = {}
    """Those that may be there. Any other is refused."""


class DependenciesRule(_Rule, frozen=True, kw_only=True):
    """Which changes against production must be reviewed, and by whom."""

    signers: Names
    reviewers: Names
    """People: exact identities."""
    review: Annotated[tuple[Literal["new", "changed", "licence", "removed"], ...], msgspec.Meta(min_length=1)] = (
        "new",
        "licence",
    )


class HygieneRule(_Rule, frozen=True, kw_only=True):
    """What must have been looked for in the image, and how large it may be."""

    signers: Names
    required: Names
    """The checks that must have run."""
    max_size_bytes: Bytes
    """Compressed."""
    max_wasted_bytes: Bytes


class CheckRule(_Table, frozen=True, kw_only=True):
    """A number that an evaluation has to reach."""

    name: str
    at: Literal["least", "most"]
    threshold: float
    min_samples: Count


class EvaluationRule(_Rule, frozen=True, kw_only=True):
    """What a model has to be able to do."""

    signers: Names
    golden_set: Sha256
    model: str | None = None
    """Exactly; None: any."""
    checks: Annotated[tuple[CheckRule, ...], msgspec.Meta(min_length=1)]


class ApprovalsRule(_Rule, frozen=True, kw_only=True):
    """How many people have to agree, and about what."""

    signers: Names
    """People: exact identities."""
    count: Count
    about: tuple[EvidenceRule, ...] = EVIDENCE_RULES
    """The rules whose statements an approval must name: what came later was not approved."""
    max_valid_hours: Hours = 24.0 * 7
    """An approval that would hold for longer than this from now is none."""


class CanaryRule(_Rule, frozen=True, kw_only=True):
    """What a canary has to show before all traffic follows."""

    signers: Names
    metrics: Names
    """Each must have passed."""
    min_samples: Count
    """On both sides, of each metric."""
    min_seconds: Annotated[float, msgspec.Meta(gt=0)]
    min_share: Share
    """Of the traffic."""
    max_age_hours: Hours = 24.0


class Rules(_Table, frozen=True, kw_only=True):
    """The rules. That nothing is revoked is always among them."""

    signature: SignatureRule
    sbom: SbomRule | None = None
    vulnerabilities: VulnerabilitiesRule | None = None
    provenance: ProvenanceRule | None = None
    dependencies: DependenciesRule | None = None
    hygiene: HygieneRule | None = None
    evaluation: EvaluationRule | None = None
    approvals: ApprovalsRule | None = None
    canary: CanaryRule | None = None


class BreakGlass(_Table, frozen=True, kw_only=True):
    """Who may let an image through in an emergency, together. Never one that is unsigned or revoked."""

    signers: Names
    """People: exact identities."""
    count: Annotated[int, msgspec.Meta(ge=2)] = 2
    max_hours: Annotated[float, msgspec.Meta(gt=0, le=24)] = 4.0
    """From now; what would hold for longer is refused."""
    environments: tuple[str, ...] = ()
    """Where it may be used; empty: everywhere."""


class Document(_Table, frozen=True, kw_only=True):
    """The whole file."""

    schema_version: Literal[1]
    repositories: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The images that this policy is for: `host/path`, exact or with `*`."""
    environments: Names
    """The environments that this policy is for. Each is a stage with the rules that name it."""
    baseline: str = "production"
    """The environment whose image dependencies and canaries are compared with."""
    signers: dict[str, SignerEntry]
    rules: Rules
    break_glass: BreakGlass | None = None

    def accepts(self, name: str, signer: Signer) -> bool:
        """Whether a named party is who signed."""
        return any(identity.matches(signer) for identity in self.signers[name].identities)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, and the digest of the file that it was read from: what decisions refer to."""

    document: Document
    digest: Digest
