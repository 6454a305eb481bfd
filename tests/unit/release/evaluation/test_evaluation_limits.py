"""Where thresholds come from, and which are none; what the gate makes of the evidence."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from tests.unit.release.evaluation.scripted_model import CASES, MODEL, lines
from tests.unit.release.policy import evidence_set

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError
from pratique.release.evaluation.golden import GoldenSet, parse_golden_set
from pratique.release.evaluation.limits import limits_of
from pratique.release.evaluation.scoring import Limit, Measure, decide
from pratique.release.policy.document import Policy
from pratique.release.predicates import Evaluation

pytestmark = pytest.mark.unit


def golden(**thresholds: float) -> GoldenSet:
    named = {name.replace("_", "-"): value for name, value in thresholds.items()}
    return parse_golden_set(lines({"golden_set": 1, "name": "x", "thresholds": named}, *CASES), where="x")


def policy_for(golden_set: GoldenSet, *edits: tuple[str, str]) -> Policy:
    return evidence_set.policy((evidence_set.GOLDEN_SET, golden_set.digest), *edits)


def test_a_policy_comes_before_the_set_and_what_is_said_before_both() -> None:
    own = golden(answers=0.5, logprob_max=1.0)
    assert limits_of(own, MODEL, None, {}) == {"answers": Limit(0.5), "logprob-max": Limit(1.0)}
    found = limits_of(own, MODEL, policy_for(own), {"answers": 0.95})
    assert found == {"answers": Limit(0.95, 50), "logprob-max": Limit(1.0), "perplexity": Limit(12.5, 50)}


def test_a_policy_about_another_set_or_model_is_refused() -> None:
    own = golden()
    with pytest.raises(EvidenceError, match="asks for the golden set"):
        limits_of(own, MODEL, evidence_set.policy(), {})
    named = policy_for(own, ('signers = ["evaluator"]', 'signers = ["evaluator"]\nmodel = "big"'))
    with pytest.raises(EvidenceError, match="asks for the model 'big', got 'small'"):
        limits_of(own, MODEL, named, {})


def test_a_policy_that_measures_the_other_way_round_or_nothing_is_refused() -> None:
    own = golden()
    turned = policy_for(own, ('name = "perplexity"\nat = "most"', 'name = "perplexity"\nat = "least"'))
    with pytest.raises(CallerError, match="'perplexity' at least, it is measured the other way round"):
        limits_of(own, MODEL, turned, {})
    strange = policy_for(own, ('name = "perplexity"', 'name = "elegance"'))
    with pytest.raises(CallerError, match="'elegance': this is not measured; measured are answers"):
        limits_of(own, MODEL, strange, {})
    rules = msgspec.structs.replace(policy_for(own).document.rules, evaluation=None)
    without = Policy(msgspec.structs.replace(policy_for(own).document, rules=rules), own.digest)
    with pytest.raises(CallerError, match=r"no \[rules.evaluation\]"):
        limits_of(own, MODEL, without, {})


@pytest.mark.parametrize(
    ("name", "threshold", "said"),
    [
        ("elegance", 1.0, "this is not measured"),
        ("logprob-max", math.nan, "expected a number"),
        ("logprob-max", math.inf, "expected a number"),
        ("logprob-max", -1.0, "expected a number"),
        ("answers", 0.0, "expected a share above 0"),
        ("agreement", 1.5, "expected a share"),
        ("truncated", 3.0, "it is 0 always"),
    ],
)
def test_a_threshold_that_is_none_is_refused(name: str, threshold: float, said: str) -> None:
    with pytest.raises(CallerError, match=said):
        limits_of(golden(), MODEL, None, {name: threshold})


def gate(evaluation: Evaluation, by: Policy) -> set[str]:
    predicate: dict[str, Any] = msgspec.to_builtins(evaluation)
    edit = evidence_set.with_predicate(**predicate)
    return evidence_set.failed(evidence_set.decide(evidence_set.dossier({"evaluation": edit}), by=by))


@pytest.mark.parametrize(("perplexity", "failed"), [(11.4, set()), (12.6, {"evaluation"})])
def test_the_gate_reads_what_an_evaluation_says(perplexity: float, failed: set[str]) -> None:
    own = golden()
    by = policy_for(own)
    measures = {"answers": Measure(0.9, 60), "truncated": Measure(0, 60), "perplexity": Measure(perplexity, 300)}
    verdict = decide(measures, limits_of(own, MODEL, by, {}))
    assert verdict.passed == (not failed)
    assert gate(Evaluation(model=MODEL, golden_set=own.digest, checks=verdict.checks), by) == failed


def test_lenience_with_the_command_does_not_pass_the_gate() -> None:
    own = golden()
    by = policy_for(own)
    measures = {"answers": Measure(0.5, 60), "truncated": Measure(0, 60), "perplexity": Measure(11.4, 300)}
    verdict = decide(measures, limits_of(own, MODEL, by, {"answers": 0.4}))
    assert verdict.passed
    assert gate(Evaluation(model=MODEL, golden_set=own.digest, checks=verdict.checks), by) == {"evaluation"}
