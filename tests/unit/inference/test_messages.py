"""Bodies of OpenAI chat requests: what is read of them, and that nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.context.fitter import Fitter
from pratique.inference.context.messages import ChatRequest, Uncountable, parse_chat
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.engines.simulated import SimulatedEngine
from pratique.inference.settings import BudgetSettings, SimulatedSettings

pytestmark = pytest.mark.unit

USER = {"role": "user", "content": "q"}


def parsed(*messages: Any, **fields: Any) -> ChatRequest:
    request = parse_chat(json.dumps({"messages": messages, **fields}).encode())
    assert isinstance(request, ChatRequest), request
    return request


def reason(body: bytes) -> str:
    request = parse_chat(body)
    assert isinstance(request, Uncountable)
    return request.reason


def test_a_conversation_is_parted_into_head_history_and_tail() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "3"}
    request = parsed(
        {"role": "system", "content": "be brief"},
        {"role": "developer", "content": "in Japanese"},
        {"role": "user", "content": "first", "name": "ann"},
        {"role": "assistant", "content": "reply"},
        {"role": "system", "content": "inside"},
        {"role": "user", "content": "last"},
        call,
        result,
    )
    assert [message.content for message in request.head] == ["be brief", "in Japanese"]
    assert request.history == (
        ChatMessage("user", "first", '{"name":"ann"}'),
        ChatMessage("assistant", "reply"),
        ChatMessage("system", "inside"),
    )
    assert request.tail == (
        ChatMessage("user", "last"),
        ChatMessage("assistant", "", '{"tool_calls":[{"id": "1"}]}'),
        ChatMessage("tool", "3", '{"tool_call_id":"1"}'),
    )
    wanted = request.wanted(reserve_tokens=64)
    assert (wanted.system_prompt, wanted.max_tokens) == ("be brief\n\nin Japanese", 64)
    assert [turn.message for turn in wanted.history] == list(request.history)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("日本語😀", "日本語😀"),
        (None, ""),
        ("", ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        (["a", {"type": "text", "text": "b"}], "a\nb"),
    ],
)
def test_content_is_read_as_text(content: object, text: str) -> None:
    assert parsed({"role": "user", "content": content}).tail[0].content == text


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, None),
        ({"max_tokens": None}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, 7),
        ({"max_completion_tokens": None, "max_tokens": 5}, 5),
    ],
)
def test_the_length_of_the_reply_is_what_the_request_says(fields: dict[str, Any], tokens: int | None) -> None:
    assert parsed(USER, **fields).max_tokens == tokens


@pytest.mark.parametrize("none", [{}, {"tools": None}, {"tools": []}])
def test_no_tools_are_no_tools(none: dict[str, Any]) -> None:
    assert parsed(USER, **none).tools == ""


def test_tools_stay_as_they_are() -> None:
    assert parsed(USER, tools=[{"type": "function", "n": 1.50}]).tools == '[{"type": "function", "n": 1.5}]'


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "x\r\ny: z"}]}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": 3}]}]}, "content"),
        ({"messages": [{"role": "user", "content": [3]}]}, "content"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "content"),
        ({"messages": [{"role": "user", "content": 3}]}, "content"),
        ({"messages": [{"role": "function", "content": "x"}, USER]}, "role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no_user_message"),
        ({"messages": []}, "no_user_message"),
        ({"messages": [USER], "chat_template": "{{ 1 }}"}, "chat_template"),
        ({"messages": [USER], "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs"),
        ({"messages": [USER], "documents": [{"text": "x"}]}, "documents"),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens"),
        ({"messages": [USER], "max_tokens": "5"}, "max_tokens"),
        ({"messages": [USER], "max_tokens": True}, "max_tokens"),
        ({"messages": [USER], "max_completion_tokens": 1.0}, "max_completion_tokens"),
        ({"messages": [USER], "tools": {"a": 1}}, "not_a_chat_request"),
        ({"messages": [{"content": "x"}]}, "not_a_chat_request"),
        ({"messages": [3]}, "not_a_chat_request"),
        ({"messages": "hello"}, "not_a_chat_request"),
        ({"messages": None}, "not_a_chat_request"),
        ({}, "not_a_chat_request"),
    ],
)
def test_what_cannot_be_counted_says_why(fields: dict[str, Any], why: str) -> None:
    assert reason(json.dumps(fields).encode()) == why


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b'{"messages":[{"role":"user","content":"\\ud800"}]}', b'{"a":NaN}', b"[" * 50_000],
)
def test_what_is_no_json_object_is_left_alone(body: bytes) -> None:
    assert reason(body) == "not_a_chat_request"


@settings(max_examples=50)
@given(st.binary(max_size=80))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    assert isinstance(parse_chat(body), Uncountable | ChatRequest)


@pytest.mark.parametrize("empty", [{"chat_template": None}, {"chat_template_kwargs": {}}, {"documents": []}])
def test_a_field_that_says_nothing_is_none(empty: dict[str, Any]) -> None:
    assert parsed(USER, **empty).tail == (ChatMessage("user", "q"),)


def test_all_but_the_messages_stays_byte_for_byte() -> None:
    kept = b'{"role" : "user","content":"\\u3042 q","weight":1.50}'
    body = b'{"n":2,"seed":123456789012345678901234567890,"messages":[%s,%s],"temperature":0.70,"stop":["\\u3042"]}'
    request = parse_chat(body % (b'{"role":"user","content":"old"}', kept))
    assert isinstance(request, ChatRequest)
    marker = ChatMessage("system", "[1 earlier turn left out here]")
    assert request.rebuilt((marker, *request.tail)) == body % (
        b'{"role":"system","content":"[1 earlier turn left out here]"}',
        kept,
    )


def test_a_reply_is_bounded_where_asked() -> None:
    body = json.loads(parsed(USER, max_tokens=None).rebuilt((ChatMessage("user", "q"),), max_tokens=9))
    assert body["max_completion_tokens"] == 9


def test_a_rewritten_message_keeps_its_other_fields() -> None:
    request = parsed({"role": "user", "content": "q", "name": "ann", "big": 10**30})
    changed = ChatMessage("user", "[left out]\nq", request.tail[0].extra)
    [message] = json.loads(request.rebuilt((changed,)))["messages"]
    assert message == {"role": "user", "content": "[left out]\nq", "name": "ann", "big": 10**30}


@pytest.mark.parametrize(
    "head",
    [
        [],
        [{"role": "system", "content": ""}],
        [{"role": "system", "content": "a"}],
        [{"role": "developer", "content": [{"type": "text", "text": "a"}], "name": "x"}],
        [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}],
    ],
)
def test_the_head_comes_back_as_it_was(head: list[dict[str, Any]]) -> None:
    request = parsed(*head, USER)
    text = request.system_prompt
    fitted = (*((ChatMessage("system", text),) if text else ()), *request.tail)
    assert json.loads(request.rebuilt(fitted))["messages"] == [*head, USER]


TEXTS = st.text(st.sampled_from('ab 日本😀\n"'), max_size=30)
MESSAGES = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": TEXTS}),
    st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS, "name": TEXTS}),
    st.fixed_dictionaries(
        {"role": st.just("user"), "content": st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}))}
    ),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": st.none(), "tool_calls": st.just([{"id": "1"}])}),
    st.fixed_dictionaries({"role": st.just("tool"), "content": TEXTS, "tool_call_id": st.just("1")}),
)


@settings(max_examples=25)
@given(st.lists(MESSAGES, max_size=15), st.integers(60, 200))
def test_what_is_kept_is_what_was_sent_in_its_order(messages: list[dict[str, Any]], limit: int) -> None:
    engine = SimulatedEngine(SimulatedSettings(), model="m", max_model_len=limit)
    request = parsed(*messages, USER, other=1)
    # 8 tokens a marker; the rest has to fit with the head, which is what must be there.
    wanted = request.wanted(reserve_tokens=8)
    must = engine.encode((ChatMessage("system", request.system_prompt), *request.tail))
    fitted, _ = Fitter(engine, BudgetSettings()).fit(wanted, limit=max(limit, len(must) + 20))
    body = json.loads(request.rebuilt(fitted.messages))
    kept = [message for message in body["messages"] if "left out here]" not in str(message["content"])]
    rest = iter([*messages, USER])
    assert all(message in rest for message in kept), "kept messages are those that were sent, in their order"
    assert body["messages"][-1]["content"].endswith("q")
    assert body["other"] == 1
    if not fitted.was_truncated:
        assert body["messages"] == [*messages, USER]
