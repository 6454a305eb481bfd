"""A golden set put to a server: what is asked, what passes, what never does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.release.evaluation.scripted_model import BARE, CASES, MODEL, ScriptedModel, SilentModel, lines

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError
from pratique.release.evaluation.errors import GoldenSetError, IncompleteEvaluationError, OtherModelError
from pratique.release.evaluation.golden import GoldenSet, parse_golden_set
from pratique.release.evaluation.regexes import search_all
from pratique.release.evaluation.running import Evaluated, evaluate, record, require_measurable
from pratique.release.evaluation.scoring import Limit
from pratique.release.evaluation.settings import EvaluationSettings

pytestmark = pytest.mark.unit

BARE_SET = parse_golden_set(BARE, where="bare")


@pytest.fixture(scope="module")
def recorded() -> GoldenSet:
    return parse_golden_set(record(ScriptedModel(), BARE_SET, MODEL, note="scripted"), where="recorded")


def limits(golden: GoldenSet) -> dict[str, Limit]:
    return {name: Limit(threshold) for name, threshold in golden.header.thresholds.items()}


def put(golden: GoldenSet, server: ScriptedModel | None = None) -> Evaluated:
    return evaluate(server or ScriptedModel(), golden, MODEL, limits(golden))


def first_choice(**members: object) -> Callable[[dict[str, Any]], object]:
    return lambda body: body["choices"][0].update(members)


def test_the_server_that_was_recorded_passes(recorded: GoldenSet) -> None:
    found = put(recorded)
    assert found.verdict.passed
    assert found.notes == ()
    assert found.evaluation.model == MODEL
    assert found.evaluation.golden_set == recorded.digest
    assert [(one.name, one.passed, one.num_samples) for one in found.evaluation.checks] == [
        ("answers", True, 2),
        ("truncated", True, 2),
        ("unusable", True, 8),
        ("logprob-mean", True, 8),
        ("agreement", True, 8),
    ]
    assert recorded.header.recorded is not None
    assert (recorded.header.recorded.model, recorded.header.recorded.note) == (MODEL, "scripted")


def test_numbers_that_are_off_fail_though_every_answer_is_right(recorded: GoldenSet) -> None:
    found = put(recorded, ScriptedModel(shift=0.3))
    assert not found.verdict.passed
    assert found.measures["answers"].value == 1.0
    assert found.verdict.problems == ("logprob-mean is 0.300044, at most 0.05 is required",)
    assert found.notes[0] == "france: the token It is off by 0.300 nats"


def test_a_wrong_answer_is_named(recorded: GoldenSet) -> None:
    server = ScriptedModel()
    server.answers["What is the capital of France?"] = "It is Lyon .\x1b[0m"
    found = put(recorded, server)
    assert found.notes == (
        "france: the answer is wrong: It is Lyon .\\u{1b}[0m",
        "france: the token Paris is off by 2.079 nats",
    )
    assert found.measures["answers"].value == 0.5


def test_a_truncated_answer_fails_though_it_has_what_is_expected(recorded: GoldenSet) -> None:
    found = put(recorded, ScriptedModel(edit=first_choice(finish_reason="length")))
    assert found.measures["truncated"].value == 2
    assert not found.verdict.passed
    assert found.notes[0].startswith("france: the answer is cut off: It is Paris")


def test_minus_infinity_as_servers_write_it_fails(recorded: GoldenSet) -> None:
    found = put(recorded, ScriptedModel(shift=9999.0))
    assert [(one.name, one.passed) for one in found.evaluation.checks if not one.passed] == [("unusable", False)]
    assert found.notes[0] == "france: the token It has no log-probability that is one"


def without(body: dict[str, Any], *path: Any) -> None:
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    place.pop(path[-1])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (first_choice(logprobs=None), "has no log-probabilities"),
        (first_choice(logprobs={"content": None, "tokens": [], "token_logprobs": []}), "has no log-probabilities"),
        (
            first_choice(logprobs={"content": [{"token": "a"}], "tokens": ["a", "b"], "token_logprobs": [None, None]}),
            "has no log-probability",
        ),
        (
            first_choice(
                logprobs={"content": [{"token": "a", "logprob": -1}], "tokens": ["a", "b"], "token_logprobs": [-1, -1]}
            ),
            "has no alternatives",
        ),
        (
            first_choice(logprobs={"content": [], "tokens": ["a", "b"], "token_logprobs": [-1]}),
            "has no",
        ),
        (first_choice(finish_reason=None), "ended with 'nothing'"),
        (first_choice(finish_reason="abort"), "ended with 'abort'"),
        (lambda body: body.update(choices=[]), "expected one answer, got 0"),
        (lambda body: body.update(choices=body["choices"] * 2), "expected one answer, got 2"),
        (lambda body: without(body, "choices"), "cannot be used"),
        (lambda body: without(body, "model"), "cannot be used"),
    ],
)
def test_an_answer_with_something_missing_leaves_it_undecided(
    recorded: GoldenSet, edit: Callable[[dict[str, Any]], object], said: str
) -> None:
    with pytest.raises(IncompleteEvaluationError, match=said):
        put(recorded, ScriptedModel(edit=edit))


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b'{"model": NaN}', b"[" * 100_000, b'{"model": "small", "choices": [{"text": "\xff"}]}']
)
def test_an_answer_that_is_none_leaves_it_undecided(recorded: GoldenSet, raw: bytes) -> None:
    with pytest.raises(IncompleteEvaluationError, match="cannot be used"):
        put(recorded, ScriptedModel(raw=raw))


def test_tokens_and_log_probabilities_of_different_number_leave_it_undecided() -> None:
    golden = parse_golden_set(
        lines({"golden_set": 1, "name": "x"}, {"id": "t", "text": "a b", "reference": [["a", None], ["b", -1]]}),
        where="x",
    )
    edit = first_choice(logprobs={"tokens": ["a", "b"], "token_logprobs": [None]})
    with pytest.raises(IncompleteEvaluationError, match="not as many log-probabilities as tokens"):
        evaluate(ScriptedModel(edit=edit), golden, MODEL, {"logprob-max": Limit(1.0)})


def test_a_server_that_does_not_answer_leaves_it_undecided(recorded: GoldenSet) -> None:
    with pytest.raises(IncompleteEvaluationError, match="does not answer") as caught:
        put(recorded, SilentModel())
    assert caught.value.exit_code == 3


def test_after_the_first_failure_nothing_more_is_asked() -> None:
    many = [{**CASES[1], "id": f"case-{number}"} for number in range(20)]
    golden = parse_golden_set(lines({"golden_set": 1, "name": "x", "thresholds": {"answers": 1}}, *many), where="x")
    server = SilentModel(settings=EvaluationSettings(concurrency=2))
    with pytest.raises(IncompleteEvaluationError):
        put(golden, server)
    assert len(server.asked) < 20


def test_another_models_answer_is_refused(recorded: GoldenSet) -> None:
    with pytest.raises(OtherModelError, match="the model 'big' answered, expected 'small'") as caught:
        put(recorded, ScriptedModel(edit=lambda body: body.update(model="big")))
    assert caught.value.exit_code == 1
    with pytest.raises(OtherModelError, match="the server has no model 'small'; it has: big"):
        put(recorded, ScriptedModel(models=("big",)))


def test_several_builds_behind_one_address_are_refused(recorded: GoldenSet) -> None:
    builds = iter(["one", "two", None])
    with pytest.raises(OtherModelError, match=r"several builds answered: \(none\), one, two"):
        put(recorded, ScriptedModel(edit=lambda body: body.update(system_fingerprint=next(builds))))


def test_what_is_asked_is_greedy_and_whole(recorded: GoldenSet) -> None:
    server = ScriptedModel()
    put(recorded, server)
    asked = {path: body for path, body in server.asked if not body.get("echo")}
    [text] = [body for _, body in server.asked if body.get("echo")]
    always = {"model": MODEL, "temperature": 0, "n": 1, "return_tokens_as_token_ids": True}
    assert asked["/v1/chat/completions"] == {
        **always,
        "messages": CASES[0]["chat"],
        "max_tokens": 64,
        "logprobs": True,
        "top_logprobs": 5,
    }
    assert asked["/v1/completions"] == {**always, "prompt": "Monday,", "max_tokens": 8, "stop": [","], "logprobs": 5}
    assert text == {**always, "prompt": "the sea is blue", "echo": True, "max_tokens": 0, "logprobs": 5}


def test_a_set_of_answers_alone_asks_for_no_log_probabilities() -> None:
    golden = parse_golden_set(lines({"golden_set": 1, "name": "x", "thresholds": {"answers": 1}}, *CASES[:2]), where="")
    server = ScriptedModel()
    assert put(golden, server).verdict.passed
    assert not any("logprobs" in body for _, body in server.asked)


@pytest.mark.parametrize(
    ("cases", "thresholds", "said"),
    [
        (CASES[:2], {}, "there are no thresholds"),
        (CASES, {"answers": 1.0}, "the case 'seas' is a text without a reference"),
        (CASES[:2], {"logprob-max": 1.0}, "no case of the golden set measures it"),
        (CASES[:2], {"unusable": 0.0}, "no case of the golden set measures it"),
        (CASES[:2], {"perplexity": 10.0}, "no case of the golden set measures it"),
        (({**CASES[2], "reference": [["a", None], ["b", -1]]},), {"answers": 0.5}, "no case of the golden set"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_asked(
    cases: tuple[object, ...], thresholds: dict[str, float], said: str
) -> None:
    golden = parse_golden_set(lines({"golden_set": 1, "name": "x", "thresholds": thresholds}, *cases), where="x")
    with pytest.raises(CallerError, match=said):
        require_measurable(golden, limits(golden))


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (ScriptedModel(answers={"What is the capital of France?": "Lyon", "Monday,": " Tuesday"}), "not what is expec"),
        (ScriptedModel(edit=first_choice(finish_reason="length")), "is cut off"),
        (ScriptedModel(shift=9999.0), "has no log-probability that is one"),
        (ScriptedModel(shift=-1.0), "has no log-probability that is one"),
    ],
)
def test_no_reference_is_recorded_from_a_server_that_is_wrong_itself(server: ScriptedModel, said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        record(server, BARE_SET, MODEL)


def test_recording_again_gives_the_same_bytes(recorded: GoldenSet) -> None:
    again = record(ScriptedModel(), recorded, MODEL, note="scripted")
    assert parse_golden_set(again, where="again").digest == recorded.digest
    assert json.loads(again.splitlines()[3])["reference"][1] == ["sea", -0.2231, {"sea": -0.2231, "?": -2.3026}]


def test_what_could_not_be_read_again_is_not_recorded() -> None:
    def odd(body: dict[str, Any]) -> None:
        logprobs = body["choices"][0]["logprobs"]
        if "top_logprobs" in logprobs:
            logprobs["top_logprobs"] = [top and {**top, "x": 0.5} for top in logprobs["top_logprobs"]]

    with pytest.raises(GoldenSetError, match="what was recorded:"):
        record(ScriptedModel(edit=odd), BARE_SET, MODEL)


def test_a_regular_expression_that_never_ends_is_ended() -> None:
    with pytest.raises(IncompleteEvaluationError, match="were not done"):
        search_all(["(a+)+$"], "a" * 60 + "b", seconds=0.3)


def test_a_slow_expression_leaves_the_evaluation_undecided() -> None:
    case = {"id": "x", "completion": "Monday,", "expect": [{"regex": "(a+)+$"}]}
    golden = parse_golden_set(lines({"golden_set": 1, "name": "x", "thresholds": {"answers": 0.1}}, case), where="x")
    server = ScriptedModel(answers={"Monday,": "a" * 60 + "b"}, settings=EvaluationSettings(regex_seconds=0.3))
    with pytest.raises(IncompleteEvaluationError, match="were not done"):
        put(golden, server)


def test_several_expressions_are_searched_for_at_once() -> None:
    assert search_all([], "x", seconds=0.001) == ()
    assert search_all([r"\bé+\b", "^a", "(?i)B"], "a éé b", seconds=20) == (True, True, True)
    assert search_all(["x", "a$"], "a\nb", seconds=20) == (False, False)


def test_an_expression_that_the_child_cannot_read_leaves_it_undecided() -> None:
    with pytest.raises(IncompleteEvaluationError, match="could not be searched for"):
        search_all(["("], "x", seconds=20)
