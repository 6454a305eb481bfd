from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.policy.patterns import is_exact, matches, pattern_problem

pytestmark = pytest.mark.unit

WORKFLOW = "https://github.com/team/chat/.github/workflows/release.yml@refs/"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (WORKFLOW + "tags/v*", WORKFLOW + "tags/v1.4.0"),
        ("*@team.example", "ana@team.example"),
        ("https://ci.example/*/chat", "https://ci.example/team/chat"),
        ("a.b", "a.b"),
    ],
)
def test_a_name_that_the_pattern_stands_for_matches(pattern: str, text: str) -> None:
    assert matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (WORKFLOW + "tags/v*", WORKFLOW + "tags/v1/../../heads/main"),
        (WORKFLOW + "heads/main", WORKFLOW + "heads/evil@refs/heads/main"),
        (WORKFLOW[:-1].replace("release.yml", "*") + "/heads/main", WORKFLOW + "heads/evil@refs/heads/main"),
        (WORKFLOW + "tags/v*", WORKFLOW + "tags/v"),
        (WORKFLOW + "tags/v*", WORKFLOW + "tags/v1\n"),
        (WORKFLOW + "tags/v*", "x" + WORKFLOW + "tags/v1"),
        (WORKFLOW + "tags/v*", WORKFLOW + "tags/v1 evil"),
        ("*@team.example", "mallory@evil.example@team.example"),
        ("*@team.example", "ana@team.example.evil"),
        ("*@team.example", "@team.example"),
        ("a.b", "axb"),
        ("a.*", "axb"),
        ("[ab]*", "ax"),
        ("a?", "ab"),
        ("a", "A"),
        ("a", "a "),
    ],
)
def test_a_name_beside_the_pattern_does_not_match(pattern: str, text: str) -> None:
    assert not matches(pattern, text)


@pytest.mark.parametrize(
    "pattern", ["", " a", "a\x00b", "a\nb", "*", "*.example", "*@", "*@a/b", "a**b", "*@*", "a*b*c*d*e*f", "*/a"]
)
def test_a_pattern_that_accepts_too_much_is_refused(pattern: str) -> None:
    assert pattern_problem(pattern)


@pytest.mark.parametrize("pattern", ["a", "*@team.example", WORKFLOW + "tags/v*", "a*b*c*d*e"])
def test_a_usable_pattern_has_no_problem(pattern: str) -> None:
    assert pattern_problem(pattern) == ""


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab/@.?[]\\^$ \n", max_size=12), st.text(alphabet="ab/@.?[]\\^$ \n", max_size=12))
def test_a_name_without_wildcards_matches_itself_only(one: str, other: str) -> None:
    assert is_exact(one)
    assert matches(one, one)
    assert matches(one, other) == (one == other)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab/@.* \n", max_size=12), st.text(alphabet="ab/@. \n", max_size=12))
def test_what_matches_has_as_many_separators_as_the_pattern(pattern: str, text: str) -> None:
    if matches(pattern, text):
        for separator in "/@ \n":
            assert text.count(separator) == pattern.count(separator)
        assert text.startswith(pattern.partition("*")[0])
