from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.inference.context.continuation import Continuation

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("prefix", "opening"),
    [
        ("", ""),
        ("The capital of", "The capital of"),
        ("The capital of ", "The capital of"),
        ("def f():\n    ", "def f():\n    "),
        ("line\n ", "line\n "),
        (" ", " "),
        ("two  ", "two  "),
    ],
)
def test_one_trailing_space_is_held_back(prefix: str, opening: str) -> None:
    assert Continuation(prefix).opening == opening


def test_the_held_space_is_taken_off_the_first_text_and_no_other() -> None:
    following = Continuation("The capital of ")
    assert [following.follow(text) for text in ("", " France", " is", " Paris")] == ["", "France", " is", " Paris"]


def test_a_text_that_begins_otherwise_stays_as_it_is() -> None:
    assert Continuation("so ").follow("\nnext") == "\nnext"


@given(st.text(alphabet="ab \n", max_size=12), st.integers(0, 12), st.integers(1, 4))
def test_prefix_and_continuation_are_the_reply_wherever_it_was_cut(reply: str, place: int, size: int) -> None:
    prefix, rest = reply[:place], reply[place:]
    following = Continuation(prefix)
    # What a model says that goes on after the opening exactly as it would have at first.
    said = reply[len(following.opening) :]
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    assert "".join(following.follow(piece) for piece in pieces) == rest
