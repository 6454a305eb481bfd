"""A whole valid set of evidence, and ways to spoil one piece of it while all that follows from it stays consistent.

The policy is the one of docs/release/policy.md. Statements that refer to others are made in order, so an edited SBOM
is scanned, compared and approved as it then is: what is refused is refused for the edit, not for a dangling reference.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pratique.fleet.targets.interface import ERROR, LATENCY_SECONDS
from pratique.release.policy.decision import Decision, Facts, Reason, RuleResult
from pratique.release.policy.document import Policy
from pratique.release.policy.evaluate import evaluate
from pratique.release.policy.parse import parse_policy
from pratique.release.predicates import (
    APPROVAL,
    CANARY,
    DEPENDENCY_DIFF,
    DEPENDENCY_REVIEW,
    EVALUATION,
    HYGIENE,
    PROVENANCE,
    RELEASE,
    SBOM,
    VEX,
    VULNERABILITIES,
)
from pratique.release.signing.interface import Attestation, Dossier
from pratique.release.statements import Statement, make_statement, parse_statement
from pratique.release.values import CertificateIdentity, Digest, KeyIdentity, Signer, Subject, digest_of

PAGE = Path(__file__).resolve().parents[4] / "docs" / "release" / "policy.md"
[POLICY_TEXT] = re.findall(
    r"^```toml promotion\.toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
REPOSITORY = "registry.example/team/chat"
EMPTY = b"{}"
MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    b'"application/vnd.oci.empty.v1+json","digest":"' + digest_of(EMPTY).encode() + b'","size":2},"layers":[]}'
)
IMAGE = digest_of(MANIFEST)
OTHER = digest_of(b"another image")
PRODUCTION = digest_of(b"the image in production")
SUBJECT = Subject(REPOSITORY, IMAGE)
AUTHOR = "dev@team.example"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORKFLOW = "https://github.com/team/chat/.github/workflows/release.yml@refs/tags/v1.4.0"
GOLDEN_SET = Digest("sha256:" + "6" * 64)

PARTIES: dict[str, Signer] = {
    "build": CertificateIdentity("https://token.actions.githubusercontent.com", WORKFLOW),
    "scanner": KeyIdentity(Digest("sha256:" + "1" * 64)),
    "evaluator": KeyIdentity(Digest("sha256:" + "2" * 64)),
    "rollout": KeyIdentity(Digest("sha256:" + "3" * 64)),
    "ana": KeyIdentity(Digest("sha256:" + "4" * 64)),
    "ana-certificate": CertificateIdentity("https://accounts.team.example", "ana@team.example"),
    "ben": KeyIdentity(Digest("sha256:" + "5" * 64)),
    "chi": CertificateIdentity("https://accounts.team.example", "chi@team.example"),
    "stranger": KeyIdentity(Digest("sha256:" + "9" * 64)),
    "stranger-certificate": CertificateIdentity("https://accounts.team.example", "mallory@team.example"),
}


@dataclass(frozen=True)
class Piece:
    """One statement before it is signed."""

    predicate_type: str
    predicate: Any
    party: str
    subject: Digest = IMAGE
    signed_at: datetime | None = NOW - timedelta(hours=1)
    rewrite: Callable[[bytes], bytes] | None = None
    """Applied to the statement's bytes before they are signed: what no honest program writes."""

    @property
    def payload(self) -> bytes:
        written = make_statement(self.subject, self.predicate_type, self.predicate).payload
        return written if self.rewrite is None else self.rewrite(written)

    @property
    def statement(self) -> Statement:
        return parse_statement(self.payload)


Edit = Callable[[Piece], Piece]


@dataclass
class Pieces:
    """The pieces in the order in which they are made, each edited before the next is made from it."""

    edits: Mapping[str, Edit]
    made: dict[str, Piece] = field(default_factory=dict)

    def add(self, name: str, piece: Piece) -> None:
        edit = self.edits.get(name)
        self.made[name] = edit(piece) if edit is not None else piece

    def digest(self, name: str) -> Digest:
        return digest_of(self.made[name].payload)


def iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def ago(**how_long: float) -> str:
    return iso(NOW - timedelta(**how_long))


def component(purl: str, kind: str = "library") -> dict[str, Any]:
    name, _, version = purl.partition("?")[0].rpartition("/")[2].partition("@")
    return {"type": kind, "name": name, "version": version, "purl": purl, "bom-ref": purl}


OPENSSL = "pkg:deb/debian/openssl@3.0.15-1?arch=amd64&distro=debian-12"
MSGSPEC = "pkg:pypi/msgspec@0.20.0"
AIOHTTP = "pkg:pypi/aiohttp@3.13.0"


def _sbom() -> dict[str, Any]:
    system = {"type": "operating-system", "name": "debian", "version": "12", "bom-ref": "os"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [system, component(OPENSSL), component(MSGSPEC), component(AIOHTTP)],
        "compositions": [{"aggregate": "complete"}],
    }


def _scan(sbom: Digest) -> dict[str, Any]:
    return {
        "scanner": {
            "uri": "urn:pratique:scanner",
            "version": "1",
            "database_digest": digest_of(b"database"),
            "database_updated_at": ago(hours=20),
        },
        "result": {
            "sbom_digest": sbom,
            "num_components": 3,
            "vulnerabilities": [
                vulnerability(severity="medium", id="PYSEC-2026-1"),
                vulnerability(severity="high", id="DEBIAN-CVE-2026-7", aliases=["CVE-2026-7"], package=OPENSSL),
            ],
        },
        "scanStartedOn": ago(hours=3),
        "scanFinishedOn": ago(hours=2),
    }


def vulnerability(**members: Any) -> dict[str, Any]:
    return {"id": "PYSEC-2026-2", "package": AIOHTTP, "severity": "high", "fixed_in": ["3.13.1"], **members}


def _vex() -> dict[str, Any]:
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "urn:example:vex:1",
        "author": "ana",
        "timestamp": ago(days=3),
        "version": 1,
        "statements": [
            {
                "vulnerability": {"name": "CVE-2026-7"},
                "products": [
                    {
                        "@id": f"pkg:oci/chat@{IMAGE}?repository_url={REPOSITORY}",
                        "subcomponents": [{"@id": "pkg:deb/debian/openssl@3.0.15-1"}],
                    }
                ],
                "status": "not_affected",
                "justification": "vulnerable_code_not_in_execute_path",
            }
        ],
    }


def _provenance() -> dict[str, Any]:
    return {
        "buildDefinition": {
            "buildType": "urn:pratique:build:dockerfile:v1",
            "externalParameters": {
                "source": "https://github.com/team/chat",
                "dockerfile": "Dockerfile",
                "locks": ["requirements.txt"],
                "network_stages": "deps",
                "platform": "linux/x86_64",
                "target": "runtime",
                "test_stage": "test",
                "arguments": {"VERSION": "v1.4.0"},
            },
            "resolvedDependencies": [
                {
                    "uri": f"git+https://github.com/team/chat@{COMMIT}",
                    "digest": {"gitCommit": COMMIT},
                    "annotations": {"authors": [AUTHOR]},
                },
                {"uri": "pkg:docker/base", "digest": {"sha256": "a" * 64}},
            ],
        },
        "runDetails": {"builder": {"id": WORKFLOW}},
    }


def _diff(sbom: Digest) -> dict[str, Any]:
    return {
        "baseline": PRODUCTION,
        "sbom": sbom,
        "changes": [
            {"package": "pkg:pypi/msgspec", "after": "0.20.0"},
            {"package": "pkg:pypi/aiohttp", "before": "3.12.0", "after": "3.13.0"},
            {"package": "pkg:pypi/attrs", "before": "25.1"},
        ],
    }


def _hygiene() -> dict[str, Any]:
    return {
        "findings": [{"rule": "health-check", "level": "warning", "where": "config", "message": "there is none"}],
        "checked": ["secret-in-file", "root-user", "set-id", "health-check"],
        "size_bytes": 120_000_000,
        "wasted_bytes": 1_000_000,
    }


def _evaluation() -> dict[str, Any]:
    def check(name: str, value: float, threshold: float, at: str) -> dict[str, Any]:
        return {"name": name, "value": value, "threshold": threshold, "at": at, "passed": True, "num_samples": 64}

    return {
        "model": "smollm2",
        "golden_set": GOLDEN_SET,
        "checks": [check("answers", 0.9, 0.8, "least"), check("perplexity", 11.0, 12.5, "most")],
    }


def _canary() -> dict[str, Any]:
    def metric(name: str) -> dict[str, Any]:
        return {"metric": name, "verdict": "pass", "num_old": 9000, "num_new": 470, "p_value": 0.6, "reason": "same"}

    return {
        "baseline": PRODUCTION,
        "verdict": "pass",
        "metrics": [metric(ERROR), metric(LATENCY_SECONDS)],
        "share": 0.05,
        "started_at": ago(minutes=40),
        "ended_at": ago(minutes=25),
    }


ABOUT = ("sbom", "scan", "vex", "provenance", "diff", "review", "hygiene", "evaluation")


def approval(made: Pieces, **members: Any) -> dict[str, Any]:
    return {
        "environment": "production",
        "evidence": [made.digest(name) for name in ABOUT],
        "expires_at": iso(NOW + timedelta(days=2)),
        "reason": "release 1.4.0",
        **members,
    }


def break_glass(**members: Any) -> dict[str, Any]:
    return {
        "environment": "production",
        "evidence": [],
        "expires_at": iso(NOW + timedelta(hours=2)),
        "reason": "everything is down",
        "is_break_glass": True,
        **members,
    }


def make_pieces(edits: Mapping[str, Edit] | None = None) -> dict[str, Piece]:
    made = Pieces(edits or {})
    made.add("signature", Piece(RELEASE, {}, "build"))
    made.add("sbom", Piece(SBOM, _sbom(), "build"))
    made.add("scan", Piece(VULNERABILITIES, _scan(made.digest("sbom")), "scanner", signed_at=None))
    made.add("vex", Piece(VEX, _vex(), "ana", signed_at=None))
    made.add("provenance", Piece(PROVENANCE, _provenance(), "build"))
    made.add("diff", Piece(DEPENDENCY_DIFF, _diff(made.digest("sbom")), "build"))
    review = {"diff": made.digest("diff"), "accepted": ["pkg:pypi/msgspec"], "reason": "known and small"}
    made.add("review", Piece(DEPENDENCY_REVIEW, review, "ben", signed_at=None))
    made.add("hygiene", Piece(HYGIENE, _hygiene(), "build"))
    made.add("evaluation", Piece(EVALUATION, _evaluation(), "evaluator", signed_at=None))
    made.add("canary", Piece(CANARY, _canary(), "rollout", signed_at=None))
    made.add("approval-ben", Piece(APPROVAL, approval(made), "ben", signed_at=None))
    made.add("approval-chi", Piece(APPROVAL, approval(made), "chi"))
    return made.made


PIECES = tuple(make_pieces())


def attest(piece: Piece) -> Attestation:
    """As a verifier returns it."""
    signer = PARTIES[piece.party]
    signed_at = piece.signed_at
    bundle = digest_of(piece.statement.payload + str(signer).encode() + str(signed_at).encode())
    return Attestation(piece.statement, signer, signed_at, bundle)


def policy(*edits: tuple[str, str]) -> Policy:
    """The policy of the docs, with some of its text replaced."""
    text = POLICY_TEXT
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return parse_policy(text.encode())


FACTS = Facts(now=NOW, environment="production", in_production=PRODUCTION, revoked=frozenset())


def dossier(
    edits: Mapping[str, Edit] | None = None, *, without: tuple[str, ...] = (), more: tuple[Piece, ...] = ()
) -> Dossier:
    pieces = make_pieces(edits)
    there = [piece for name, piece in pieces.items() if name not in without]
    return Dossier(SUBJECT, tuple(attest(piece) for piece in (*there, *more)), ())


def decide(evidence: Dossier | None = None, *, by: Policy | None = None, **facts: Any) -> Decision:
    return evaluate(by or policy(), SUBJECT, evidence or dossier(), replace(FACTS, **facts))


def rule(decision: Decision, name: str) -> RuleResult:
    [found] = [one for one in decision.rules if one.rule == name]
    return found


def reasons(decision: Decision, name: str) -> list[Reason]:
    return list(rule(decision, name).reasons)


def codes(decision: Decision, name: str) -> list[str]:
    return [one.code for one in reasons(decision, name)]


def failed(decision: Decision) -> set[str]:
    return {one.rule for one in decision.rules if one.outcome == "fail"}


def with_predicate(**members: Any) -> Edit:
    """Replace some members of a piece's predicate."""
    return lambda piece: replace(piece, predicate={**piece.predicate, **members})


def with_member(path: str, value: Any) -> Edit:
    """Replace one member deep in a piece's predicate; None takes it out."""

    def edit(piece: Piece) -> Piece:
        predicate = copy.deepcopy(piece.predicate)
        place = predicate
        *steps, last = [int(step) if step.isdecimal() else step for step in path.split("/")]
        for step in steps:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return replace(piece, predicate=predicate)

    return edit


def refused(name: str, piece: str, edit: Edit, **facts: Any) -> tuple[str, str]:
    """The first code and message of the rule that an edited piece fails; no other rule may fail."""
    found = decide(dossier({piece: edit}), **facts)
    assert failed(found) == {name}, [one for one in found.rules if one.outcome == "fail"]
    first = reasons(found, name)[0]
    return first.code, first.message
