"""What people read, and the schema of what programs read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from tests.unit.release.policy.evidence_set import Piece, break_glass, decide, dossier, policy

from pratique.release.policy.decision import Unknown
from pratique.release.policy.explain import decision_schema, explain, explain_policy
from pratique.release.predicates import APPROVAL
from pratique.release.signing.interface import Unverified

pytestmark = pytest.mark.unit

SCHEMA = Path(__file__).resolve().parents[4] / "docs" / "release" / "decision.schema.json"


def broken() -> Any:
    more = tuple(Piece(APPROVAL, break_glass(), party, signed_at=None) for party in ("ana", "ben"))
    return decide(dossier(without=("hygiene",), more=more))


def test_the_schema_in_the_docs_is_that_of_the_types() -> None:
    assert SCHEMA.read_bytes() == decision_schema(), "run: pratique policy schema > docs/release/decision.schema.json"


@pytest.mark.parametrize(
    "decision",
    [decide(), broken(), decide(dossier(without=("sbom",))), decide(revoked=Unknown("away"))],
    ids=["allow", "break-glass", "block", "undecided"],
)
def test_a_decision_keeps_its_schema(decision: Any) -> None:
    jsonschema.Draft202012Validator(msgspec.json.decode(decision_schema())).validate(
        msgspec.json.decode(msgspec.json.encode(decision))
    )


def test_an_allowed_artifact_is_said_in_its_first_line() -> None:
    lines = explain(decide()).splitlines()
    assert lines[0].startswith("ALLOW registry.example/team/chat@sha256:")
    assert "  pass   approvals (by ben, chi)" in lines
    assert lines[-1].startswith("policy sha256:")


def test_what_fails_is_said_with_its_mend() -> None:
    text = explain(decide(dossier(without=("hygiene",))))
    assert text.startswith("BLOCK ")
    assert "  FAIL   hygiene\n         there is no hygiene report by build\n         → Inspect the image" in text


def test_many_reasons_with_one_mend_are_cut_and_the_mend_is_said_once() -> None:
    why = decide(dossier(without=("hygiene",)))
    (hygiene,) = (one for one in why.rules if one.rule == "hygiene")
    reasons = tuple(msgspec.structs.replace(hygiene.reasons[0], message=f"number {index}") for index in range(30))
    rules = (msgspec.structs.replace(hygiene, reasons=reasons),)
    lines = explain(msgspec.structs.replace(why, rules=rules)).splitlines()
    assert [line.strip() for line in lines if "number" in line] == [f"number {index}" for index in range(10)]
    assert "         … and 20 more" in lines
    assert len([line for line in lines if "→" in line]) == 1


def test_break_glass_is_loud() -> None:
    lines = explain(broken()).splitlines()
    assert lines[1].startswith("BREAK-GLASS by ana and ben, until 2026-11-26T14:00:00")
    assert "  ana says: everything is down" in lines
    assert "  in spite of: hygiene" in lines
    assert "  WAIVED hygiene" in lines


def test_what_could_not_be_decided_says_so() -> None:
    text = explain(decide(revoked=Unknown("the ledger does not answer")))
    assert text.startswith("COULD NOT DECIDE ")
    assert "  ????   revocation\n         the ledger does not answer" in text


def test_what_strangers_wrote_does_not_write_on_the_terminal() -> None:
    evil = Unverified("tag", "\x1b[2J\x1b[1mALLOW\r\n", "")
    text = explain(decide(replace(dossier(without=("hygiene",)), unverified=(evil,))))
    assert all(line.isprintable() for line in text.splitlines())
    assert "\n" not in text.split("tag proves nothing: ")[1].split(" → ")[0].split("ALLOW")[0]


def test_a_policy_is_shown_with_its_defaults() -> None:
    text = explain_policy(policy())
    assert text.startswith(f"policy {policy().digest}\n")
    assert "  chi: chi@team.example (by https://accounts.team.example)" in text
    assert "  min_coverage = 1.0" in text
    assert "break-glass\n" in text


def test_a_policy_without_break_glass_shows_none() -> None:
    document = msgspec.structs.replace(policy().document, break_glass=None)
    assert "break-glass" not in explain_policy(replace(policy(), document=document))
