"""What attempts show of what is expected of them; nothing, where there are none."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import Any

import pytest

from pratique.testkit.choreography import Range, at_least, at_most, between
from pratique.testkit.choreography.expected import Expected, is_same_json, make_which
from pratique.testkit.choreography.timeline import Attempt
from pratique.testkit.errors import TestkitUsageError

pytestmark = pytest.mark.unit

ONE = Attempt(
    number=1,
    client="main",
    method="POST",
    path="/a%20b",
    query="",
    headers={},
    body=b'{"a": 1}',
    came_seconds=0.0,
    delay_seconds=0.0,
    status=200,
    is_matched=True,
    script=None,
)
TWO = replace(ONE, number=2, came_seconds=0.2, client="other", method="GET", path="")


class Kind(enum.StrEnum):
    CHAT = "chat"


@pytest.mark.parametrize(
    ("expected", "least"),
    [
        (Expected(json={"a": 1}), 1),
        (Expected(json=None), 1),
        (Expected(gaps=at_least(0.1)), 2),
        (Expected(waits=at_least(0.1)), 2),
        (Expected(json={"a": 1}, gaps=0.2), 2),
        (Expected(json={"a": 1}, count=at_most(3)), 1),
    ],
)
def test_what_nothing_came_for_to_show_it_is_wrong(expected: Expected, least: int) -> None:
    attempts = [ONE, TWO][: least - 1]
    assert expected.wrong(attempts)[0].startswith(f"expected at least {least} attempts")


def test_a_count_of_one_shows_no_gap() -> None:
    assert Expected(count=1, gaps=at_most(1)).wrong([ONE]) != []


@pytest.mark.parametrize("asked", [{"json": 1}, {"gaps": at_least(1)}])
def test_none_are_right_where_none_are_expected(asked: dict[str, Any]) -> None:
    assert Expected(count=0, **asked).wrong([]) == []
    assert Expected(count=at_most(0), **asked).wrong([]) == []


def test_a_wrong_count_is_told_once() -> None:
    assert Expected(count=2, gaps=at_least(0)).wrong([ONE]) == ["expected 2 attempts, got 1"]


@pytest.mark.parametrize(
    ("count", "enough"), [(None, True), (1, False), (2, True), (between(3, 4), False), (at_least(1), True)]
)
def test_more_are_waited_for_only_as_the_count_says(count: float | Range | None, enough: bool) -> None:
    assert Expected(count=count).is_enough([ONE, TWO]) is enough


def test_more_are_waited_for_where_none_shows_what_was_asked() -> None:
    assert not Expected(json=1).is_enough([])
    assert not Expected(gaps=1).is_enough([ONE])
    assert Expected().is_enough([])


def test_gaps_and_bodies_that_are_wrong_are_told_by_attempt() -> None:
    wrong = Expected(gaps=at_most(0.1), json={"a": True}).wrong([ONE, TWO])
    assert wrong == [
        "expected gaps of at most 0.1 s, got 0.2 s before attempt 2",
        "attempt 1: expected {'a': True}, got {'a': 1}",
        "attempt 2: expected {'a': True}, got {'a': 1}",
    ]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a": 2, "a": 1}', b'[{"b": {"a": 1, "a": 1}}]'])
def test_what_is_no_json_or_has_a_key_twice_is_wrong(body: bytes) -> None:
    (wrong,) = Expected(json={"a": 1}).wrong([replace(ONE, body=body)])
    assert wrong.startswith("attempt 1: expected JSON, got b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *((True, 1), (False, 0), (1, 1.0), (None, False), ("1", 1), ([], {}), ({"a": [True]}, {"a": [1]})),
        *(([1], [1, 2]), ({"a": 1}, {"a": 1, "b": 2}), ({"a": 1}, {"b": 1}), ("a", "b"), (1, 2), ([1, 2], [2, 1])),
    ],
)
def test_what_is_written_differently_differs(one: object, other: object) -> None:
    assert not is_same_json(one, other)
    assert not is_same_json(other, one)


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "é", [], {}, {"a": [1, {"b": None}], "c": False}])
def test_what_is_written_alike_is_the_same(value: object) -> None:
    assert is_same_json(value, value)


def test_an_enums_member_is_what_it_is_written_as() -> None:
    assert is_same_json({"kind": "chat"}, {"kind": Kind.CHAT})


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        ((None, None, None), [1, 2]),
        (("ANY", None, None), [1, 2]),
        (("POST", None, None), [1]),
        ((None, "/a b", None), [1]),
        ((None, "/a%20b", None), [1]),
        ((None, "/a", None), []),
        ((None, None, "other"), [2]),
        (("GET", None, "main"), []),
    ],
)
def test_attempts_are_chosen_as_scripts_choose_requests(
    which: tuple[str | None, str | None, str | None], numbers: list[int]
) -> None:
    assert [one.number for one in make_which(*which, known=["main", "other"]).select([ONE, TWO])] == numbers


@pytest.mark.parametrize(
    ("which", "said"),
    [
        (("post", None, None), "method is 'post'"),
        (("", None, None), "method is ''"),
        ((None, "a", None), "path is 'a'"),
        ((None, "/a?x=1", None), "path is"),
        ((None, None, "nobody"), "no client 'nobody'"),
        ((None, None, ""), "no client ''"),
    ],
)
def test_what_no_attempt_can_be_is_refused(which: tuple[str | None, str | None, str | None], said: str) -> None:
    with pytest.raises(TestkitUsageError, match=said):
        make_which(*which, known=["main", "other"])


def test_an_unknown_client_is_told_the_known() -> None:
    with pytest.raises(TestkitUsageError) as caught:
        make_which(None, None, "nobody", known=["main", "other"])
    assert "main, other" in str(caught.value.hint)
