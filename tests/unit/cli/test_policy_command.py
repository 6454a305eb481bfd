"""`pratique policy`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.release.policy.evidence_set import POLICY_TEXT, policy
from typer.testing import CliRunner

from pratique.cli.policy import app
from pratique.release.policy.explain import decision_schema, explain_policy
from pratique.release.policy.gate import PolicyMismatchError
from pratique.release.policy.parse import PolicyError
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> str:
    made = tmp_path / "promotion.toml"
    made.write_text(POLICY_TEXT, encoding="utf-8")
    return str(made)


def run(*arguments: str) -> str:
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_a_policy_is_checked_and_its_digest_printed(file: str) -> None:
    assert run("check", file, "--digest", policy().digest) == f"{policy().digest}\n"
    said = json.loads(run("check", file, "--json"))
    assert (said["schema_version"], said["digest"]) == (1, policy().digest)
    assert {"signature", "canary"} <= set(said["rules"])


def test_a_policy_is_shown_whole(file: str) -> None:
    assert run("show", file) == explain_policy(policy()) + "\n"
    said = json.loads(run("show", file, "--json"))
    assert said["policy"]["rules"]["vulnerabilities"]["min_coverage"] == 1.0


def test_the_schema_is_printed_as_it_is_kept() -> None:
    assert run("schema").encode() == decision_schema()


def test_another_policy_than_the_expected_one_is_refused(file: str) -> None:
    with pytest.raises(PolicyMismatchError):
        run("check", file, "--digest", digest_of(b"reviewed"))


def test_a_policy_that_cannot_be_used_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        run("check", str(tmp_path / "none.toml"))
