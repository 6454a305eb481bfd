"""The context budget, over random conversations and templates that are additive or not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pratique.inference.context.budget import Fitted, Wanted, fit
from pratique.inference.context.counts import TextCounts
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import ContextLengthExceededError

pytestmark = pytest.mark.unit

texts = st.text(alphabet="ab 日本語🙂\n", min_size=1, max_size=40)
turns = st.lists(st.builds(ChatMessage, st.sampled_from(["user", "assistant"]), texts), max_size=12).map(tuple)
wanteds = st.builds(
    Wanted,
    query=texts,
    system_prompt=st.one_of(st.just(""), texts),
    passages=st.lists(texts, max_size=5).map(tuple),
    history=turns,
    max_tokens=st.integers(1, 60),
)
estimators = st.sampled_from([len, lambda text: 0, lambda text: 3 * len(text) + 7])


def count(messages: Sequence[ChatMessage]) -> int:
    """A template of 4 tokens around a message, one token per character."""
    return 3 + sum(4 + len(message.content) for message in messages)


def needs(wanted: Wanted) -> int:
    head = [ChatMessage("system", wanted.system_prompt)] if wanted.system_prompt else []
    return count([*head, ChatMessage("user", wanted.query)]) + wanted.max_tokens


@given(wanteds, st.integers(1, 400), estimators)
@example(Wanted(query="a", max_tokens=1), 9, len)
def test_the_prompt_fits_or_the_error_says_why(wanted: Wanted, limit: int, estimate: object) -> None:
    assert callable(estimate)
    if needs(wanted) > limit:
        with pytest.raises(ContextLengthExceededError, match=str(limit)) as caught:
            fit(wanted, limit=limit, count=count, estimate=estimate)
        assert str(needs(wanted)) in caught.value.message
        return
    fitted = fit(wanted, limit=limit, count=count, estimate=estimate)
    assert fitted.prompt_tokens == count(fitted.messages)
    assert fitted.prompt_tokens + wanted.max_tokens <= limit
    check_kept(wanted, fitted)
    check_maximal(wanted, fitted, limit)


def check_kept(wanted: Wanted, fitted: Fitted) -> None:
    assert fitted.messages[-1] == ChatMessage("user", wanted.query)
    system = [message.content for message in fitted.messages[:1] if message.role == "system"]
    num_passages = len(wanted.passages) - fitted.passages_dropped
    assert bool(system) == bool(wanted.system_prompt or num_passages)
    if wanted.system_prompt:
        assert system[0].startswith(wanted.system_prompt)
    if num_passages:
        assert system[0].endswith("Context:\n" + "\n".join(wanted.passages[:num_passages]))
    kept = fitted.messages[len(system) : -1]
    assert kept == wanted.history[fitted.turns_dropped :]
    assert fitted.was_truncated == (fitted.turns_dropped + fitted.passages_dropped > 0)


def check_maximal(wanted: Wanted, fitted: Fitted, limit: int) -> None:
    """One turn more would not have fitted, but for a reply whose question is gone."""
    if not fitted.turns_dropped:
        return
    if wanted.history[fitted.turns_dropped - 1].role == "assistant":
        return
    one_more = (
        *fitted.messages[: -1 - (len(wanted.history) - fitted.turns_dropped)],
        *wanted.history[fitted.turns_dropped - 1 :],
        fitted.messages[-1],
    )
    assert count(one_more) + wanted.max_tokens > limit


def test_history_gives_way_before_passages() -> None:
    history = tuple(ChatMessage("user", "h" * 10) for _ in range(5))
    wanted = Wanted(query="q", system_prompt="s", passages=("p" * 20,), history=history, max_tokens=5)
    limit = needs(wanted) + 65
    fitted = fit(wanted, limit=limit, count=count, estimate=len)
    assert fitted.passages_dropped == 0
    assert 0 < fitted.turns_dropped < 5


def test_passages_are_dropped_from_the_least_relevant_end_and_whole() -> None:
    wanted = Wanted(query="q", passages=("first", "second", "third"), max_tokens=1)
    limit = needs(wanted) + 4 + len("Context:\nfirst\nsecond")
    fitted = fit(wanted, limit=limit, count=count, estimate=len)
    assert fitted.passages_dropped == 1
    assert fitted.messages[0].content == "Context:\nfirst\nsecond"


def test_a_reply_whose_question_was_dropped_goes_too() -> None:
    history = (ChatMessage("user", "x" * 50), ChatMessage("assistant", "y"), ChatMessage("user", "z"))
    wanted = Wanted(query="q", history=history, max_tokens=1)
    fitted = fit(wanted, limit=needs(wanted) + 12, count=count, estimate=len)
    assert fitted.messages == (ChatMessage("user", "z"), ChatMessage("user", "q"))
    assert fitted.turns_dropped == 2


def test_a_long_history_costs_few_counts_of_a_prompt() -> None:
    history = tuple(ChatMessage("user", f"turn {number}") for number in range(1000))
    asked = 0

    def counting(messages: Sequence[ChatMessage]) -> int:
        nonlocal asked
        asked += 1
        return count(messages)

    fitted = fit(
        Wanted(query="q", history=history, max_tokens=10),
        limit=1000,
        count=counting,
        estimate=lambda text: len(text) - 1,  # the template's overhead is 4 here, 5 in the estimate
    )
    assert 0 < fitted.turns_dropped < 1000
    assert asked <= 6


def test_a_text_is_counted_once() -> None:
    counted: list[str] = []

    def slow(text: str) -> int:
        counted.append(text)
        return len(text)

    counts = TextCounts(slow, max_characters=10)
    assert [counts("abc"), counts("abc"), counts("defg")] == [3, 3, 4]
    assert counted == ["abc", "defg"]
    counts("123456")  # over the bound: the oldest goes
    counts("defg")
    counts("abc")
    assert counted == ["abc", "defg", "123456", "abc"]
