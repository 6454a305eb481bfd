"""Reserves from a log: what is read, what is refused, and the figures that follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pratique.inference.context.conversation import ConversationError, parse_conversation, to_conversation
from pratique.inference.context.fitlog import LogReader, LogTooBadError, PartSizes, Survey, propose, turns_that_fit
from pratique.inference.engines.interface import ChatMessage

pytestmark = pytest.mark.unit


def user(content: object, **fields: object) -> dict[str, object]:
    return {"role": "user", "content": content, **fields}


def assistant(content: object, **fields: object) -> dict[str, object]:
    return {"role": "assistant", "content": content, **fields}


def parse(**fields: Any) -> Any:
    return parse_conversation(json.dumps(fields).encode())


def survey() -> Survey:
    """A token is a character, and a message costs nothing beside its text."""
    return Survey(lambda message: len(message.content), len)


def test_a_log_entry_is_parted_at_its_last_question() -> None:
    call = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    read = parse(
        system="be kind",
        context=["one", "two"],
        messages=[
            user("a", is_pinned=True),
            assistant(None, tool_calls=call),
            {"role": "tool", "content": "r"},
            user("q"),
        ],
        reply="answer",
    )
    assert (read.system, read.passages, read.reply) == ("be kind", ("one", "two"), "answer")
    assert [turn.message.role for turn in read.history] == ["user", "assistant", "tool"]
    assert [turn.is_pinned for turn in read.history] == [True, False, False]
    assert json.loads(read.history[1].message.extra) == {"tool_calls": call}
    assert read.tail == (ChatMessage("user", "q"),)
    assert read.wanted(max_tokens=7).max_tokens == 7


def test_an_openai_log_entry_has_its_prompt_tools_and_usage() -> None:
    read = parse(
        model="any",
        messages=[
            {"role": "system", "content": "be kind"},
            {"role": "developer", "content": [{"type": "text", "text": "and brief"}]},
            user([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]),
        ],
        tools=[{"type": "function"}],
        max_completion_tokens=9,
        max_tokens=5,
        choices=[{"message": assistant("hello")}],
        usage={"completion_tokens": 12, "prompt_tokens": 3},
    )
    assert (read.system, read.reply, read.reply_tokens) == ("be kind\n\nand brief", "hello", 12)
    assert read.tools == '[{"type":"function"}]'
    assert read.wanted(max_tokens=7).max_tokens == 9
    assert read.tail == (ChatMessage("user", "a"),)


def test_a_reply_at_the_end_is_no_part_of_the_prompt_but_a_tool_call_is() -> None:
    assert parse(messages=[user("q"), assistant("a")]).reply == "a"
    running = parse(messages=[user("q"), assistant(None, tool_calls=[{"id": "1"}]), {"role": "tool", "content": "r"}])
    assert [message.role for message in running.tail] == ["user", "assistant", "tool"]
    assert parse(messages=[user("q"), assistant(None, tool_calls=[{"id": "1"}])]).reply == ""
    later = parse(messages=[user("q"), {"role": "system", "content": "s"}, user("q2")])
    assert [turn.message.role for turn in later.history] == ["user", "system"]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"messages": []}', "no user message"),
        (b'{"messages": [{"role": "system", "content": "s"}]}', "no user message"),
        (b'{"messages": [{"role": "king", "content": "s"}]}', r"\$.messages\[0\].role"),
        (b'{"messages": [{"role": "user", "content": 3}]}', r"\$.messages\[0\].content"),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "utf-8"),
        (b'{"messages": ' + b"[" * 100_000, "depth|recursion|Expected"),
        (b'{"system": "s"}', "messages"),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_place(raw: bytes, why: str) -> None:
    with pytest.raises(ConversationError, match=f"(?i){why}"):
        parse_conversation(raw)


def test_a_decoded_object_is_read_the_same_way() -> None:
    assert to_conversation({"messages": [user("q")]}).tail == (ChatMessage("user", "q"),)
    with pytest.raises(ConversationError, match="messages"):
        to_conversation({"messages": "q"})


def test_percentiles_are_of_the_nearest_rank() -> None:
    sizes = PartSizes()
    assert sizes.percentile(50) == 0
    for tokens in range(1, 101):
        sizes.add(tokens)
    assert [sizes.percentile(percent) for percent in (0, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]


def test_every_part_is_measured_as_it_stands_in_a_prompt() -> None:
    measured = survey()
    measured.add(
        parse(
            system="s" * 10,
            context=["p" * 3, "p" * 4],
            messages=[assistant("hello"), user("q" * 5), assistant("a" * 7), user("last")],
            reply="r" * 6,
        )
    )
    medians = {part: sizes.percentile(50) for part, sizes in measured.parts.items()}
    assert medians == {"system": 10, "context": len("\n\nContext:\nppp\npppp"), "query": 4, "reply": 6, "turn": 5}
    assert measured.parts["turn"].number == 2
    assert measured.parts["turn"].percentile(100) == 12


def test_parts_that_a_conversation_lacks_are_not_counted_as_empty() -> None:
    measured = survey()
    measured.add(parse(messages=[user("q")]))
    assert {part: sizes.number for part, sizes in measured.parts.items()} == {
        "system": 0,
        "context": 0,
        "query": 1,
        "reply": 0,
        "turn": 0,
    }
    proposal = propose(measured, max_model_len=4096)
    assert (proposal.context_reserve_tokens, proposal.output_reserve_tokens) == (None, None)
    assert proposal.turns_at_medians == 0


def test_the_medians_of_the_field_let_eleven_turns_into_4096() -> None:
    medians = {"system": 480, "context": 280, "query": 45, "reply": 350, "turn": 250}
    assert turns_that_fit(medians, max_model_len=4096) == 11
    measured = survey()
    head = len("\n\nContext:\n")
    turn = [user("q" * 60), assistant("a" * 190)]
    for _ in range(3):
        measured.add(
            parse(
                system="s" * 480, context=["p" * (280 - head)], messages=[*turn, *turn, user("q" * 45)], reply="r" * 350
            )
        )
    proposal = propose(measured, max_model_len=4096)
    assert proposal.turns_at_medians == 11
    assert (proposal.context_reserve_tokens, proposal.output_reserve_tokens) == (300, 350)
    assert not proposal.is_context_capped
    small = propose(measured, max_model_len=1024)
    assert (small.context_reserve_tokens, small.is_context_capped, small.turns_at_medians) == (128, True, 0)


def read(*lines: bytes | None, max_bad_share: float = 0.05) -> LogReader:
    reader = LogReader(survey())
    reader.read(lines)
    reader.verify(max_bad_share=max_bad_share)
    return reader


GOOD = b'{"messages": [{"role": "user", "content": "q"}]}\n'


def test_bad_lines_are_named_and_counted() -> None:
    reader = read(GOOD, b"\n", b"nonsense\n", None, GOOD, max_bad_share=0.5)
    assert (reader.num_lines, reader.num_bad) == (4, 2)
    assert [line.number for line in reader.bad] == [3, 4]
    assert "too long" in reader.bad[1].why


def test_only_the_first_bad_lines_are_named() -> None:
    reader = read(GOOD, *[b"x"] * 100, max_bad_share=1.0)
    assert reader.num_bad == 100
    assert len(reader.bad) == 20


def test_a_log_with_too_much_that_is_none_is_refused() -> None:
    with pytest.raises(LogTooBadError, match=r"2 of 3 lines.*5.0%.*line 2") as caught:
        read(GOOD, b"x", b"y")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("lines", [(), (b"",), (b"x",)])
def test_a_log_without_a_conversation_is_refused(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(LogTooBadError, match="no conversation"):
        read(*lines, max_bad_share=1.0)
