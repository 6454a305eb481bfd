"""One pass finds every anchor where a search for each of them finds it."""

from __future__ import annotations

from random import Random

import pytest

from pratique.core.secrets.anchors import AnchorFinder
from pratique.core.secrets.rules import RULES, rule_named
from pratique.testkit.guard.scan.corpus import false_cases, true_cases

pytestmark = pytest.mark.unit

ANCHORS = sorted({anchor for rule in RULES for anchor in rule.anchors})
FINDER = AnchorFinder(RULES)


def places(text: str) -> dict[str, list[int]]:
    return {rule.id: at for rule, at in FINDER.find(text)}


def searched(text: str) -> dict[str, set[int]]:
    """The same the long way, for anchors as they are written."""
    found = {
        rule.id: {at for anchor in rule.anchors for at in range(len(text)) if text.startswith(anchor, at)}
        for rule in RULES
    }
    return {rule: at for rule, at in found.items() if at}


@pytest.mark.parametrize("anchor", ANCHORS)
def test_every_anchor_is_found_beside_and_across_every_other(anchor: str) -> None:
    for other in ANCHORS:
        for shared in range(min(len(anchor), len(other))):
            if anchor.endswith(other[:shared]):
                text = anchor + other[shared:]
                found = places(text)
                assert all(at <= set(found[rule]) for rule, at in searched(text).items()), text


def test_every_anchor_is_found_in_texts_of_all_kinds() -> None:
    cases = [*true_cases(seed=5, per_rule=2), *false_cases(seed=6, per_kind=1)]
    Random(7).shuffle(cases)  # noqa: S311 - opens nothing
    text = "".join(case.text for case in cases)[:40_000]
    found = places(text)
    assert all(at <= set(found[rule]) for rule, at in searched(text).items())


@pytest.mark.parametrize("text", ["PASSWORD", "PassWord", "password", "xpasswordx"])
def test_small_letters_stand_for_capitals(text: str) -> None:
    assert places(text) == {"generic-secret": [text.lower().index("pass")]}


def test_capitals_stand_for_themselves() -> None:
    assert places("akia eyj aiza") == {}
    assert places("AKIA") == {"aws-access-key-id": [0], "aws-secret-access-key": [0]}


def test_rules_and_places_come_in_their_order() -> None:
    found = FINDER.find("token eyJ npm_ secret eyJ ghp_")
    assert [rule.id for rule, _ in found] == [
        "aws-secret-access-key", "aws-session-token", "github-token", "npm-token", "jwt", "registry-auth",
        "generic-secret",
    ]  # fmt: skip
    assert found[4] == (rule_named("jwt"), [6, 22])


def test_a_text_without_anchors_is_not_looked_at() -> None:
    assert FINDER.find("") == FINDER.find("nothing of the kind") == []
