"""What a golden set must be, line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.evaluation import golden
from pratique.release.evaluation.errors import GoldenSetError
from pratique.release.evaluation.golden import (
    Case,
    Expectation,
    Header,
    Message,
    Position,
    encode_golden_set,
    parse_golden_set,
)
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

HEADER = {"golden_set": 1, "name": "small"}
ANSWER = {"id": "france", "completion": "The capital of France is", "expect": [{"contains": "Paris"}]}
TEXT = {"id": "text", "text": "a b", "reference": [["a", None, {}], ["b", -0.5, {"b": -0.5}]]}


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in values)


def refusal(content: bytes) -> str:
    with pytest.raises(GoldenSetError) as caught:
        parse_golden_set(content, where="set.jsonl")
    return caught.value.message


def refused_case(**members: object) -> str:
    case = {name: value for name, value in {**ANSWER, **members}.items() if value is not ...}
    return refusal(lines(HEADER, case))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "set.jsonl:1: the line is empty"),
        (b"\n", "set.jsonl:1: the line is empty"),
        (lines(HEADER), "has no cases: nothing could fail"),
        (lines(ANSWER), "set.jsonl:1: Object"),
        (lines({**HEADER, "golden_set": 2}, ANSWER), "set.jsonl:1: Invalid"),
        (lines({**HEADER, "golden_set": "1"}, ANSWER), "set.jsonl:1: "),
        (lines({**HEADER, "tolerance": 0}, ANSWER), "set.jsonl:1: "),
        (lines({**HEADER, "threshold": {}}, ANSWER), "unknown field `threshold`"),
        (lines(HEADER, ANSWER, HEADER), "set.jsonl:3: "),
        (lines(HEADER, ANSWER, ANSWER), "set.jsonl:3: there is a case 'france' already"),
        (lines(HEADER) + b"\n" + lines(ANSWER), "set.jsonl:2: the line is empty"),
        (lines(HEADER, ANSWER) + b"\n", "set.jsonl:3: the line is empty"),
        (lines(HEADER, ANSWER)[:-3], "set.jsonl:2: Input data was truncated"),
        (lines(HEADER) + b"\xff\n", "set.jsonl:2: "),
        (lines(HEADER) + b'{"id": "x", "text": "\xff"}\n', "set.jsonl:2: "),
        (lines(HEADER) + b"[" * 100_000 + b"\n", "set.jsonl:2: "),
        (lines(HEADER) + b'{"id": "x", "id": "y", "text": "z"}\n', "the member 'id' stands twice"),
        (
            lines(HEADER) + b'{"id": "x", "text": "z", "reference": [["a", null, {"t": -1, "t": -2}], ["b", -1]]}\n',
            "the member 't' stands twice",
        ),
        (lines(HEADER) + b'{"id": "x", "text": "z", "reference": [["a", null], ["b", NaN]]}\n', "set.jsonl:2: "),
    ],
)
def test_a_set_that_is_none_is_refused_with_its_line(content: bytes, said: str) -> None:
    assert said in refusal(content)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"id": "a b"}, "matching regex"),
        ({"id": "x\n"}, "matching regex"),
        ({"id": "x" * 65}, "matching regex"),
        ({"completion": ...}, "expected exactly one of 'chat', 'completion' and 'text'"),
        ({"completion": ""}, "length"),
        ({"chat": [{"role": "user", "content": "x"}]}, "expected exactly one of 'chat'"),
        ({"chat": [], "completion": ...}, "length"),
        ({"chat": [{"role": "tool", "content": "x"}], "completion": ...}, "Invalid enum value 'tool'"),
        ({"expect": []}, "nothing is expected of the answer"),
        ({"expect": ...}, "nothing is expected of the answer"),
        ({"expect": [{}]}, "exactly one of 'exact', 'contains' and 'regex'"),
        ({"expect": [{"exact": "a", "contains": "b"}]}, "exactly one of 'exact', 'contains' and 'regex'"),
        ({"expect": [{"contains": ""}]}, "length"),
        ({"expect": [{"regex": "("}]}, "'(' is no regular expression"),
        ({"expect": [{"regex": "x" * 1025}]}, "length"),
        ({"expect": [{"like": "a"}]}, "unknown field `like`"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"tolerance": -1}, "tolerance"),
        ({"reference": []}, "length"),
        ({"reference": [["a"]]}, "reference"),
        ({"reference": [["a", -0.5, {}, 1]]}, "at most length 3"),
        ({"reference": [["a", 0.5]]}, "reference"),
        ({"reference": [["a", -9999.0]]}, "reference"),
        ({"reference": [["a", None]]}, "the token 0 of 'reference' has no log-probability"),
        ({"reference": [["a", -1], ["b", None]]}, "the token 1 of 'reference' has no log-probability"),
        ({"text": "x", "completion": ...}, "a 'text' is not answered"),
        ({"text": "x", "completion": ..., "expect": ..., "stop": ["a"]}, "a 'text' is not answered"),
        ({"text": "x", "completion": ..., "expect": ..., "max_tokens": 1}, "a 'text' is not answered"),
        ({"text": "x", "completion": ..., "expect": ..., "reference": [["x", None]]}, "nothing to compare"),
    ],
)
def test_a_case_that_is_none_is_refused(members: dict[str, object], said: str) -> None:
    message = refused_case(**members)
    assert message.startswith("set.jsonl:2: ")
    assert said in message


def test_what_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    content = lines(HEADER, ANSWER, TEXT)
    monkeypatch.setattr(golden, "_MAX_LINE_BYTES", 40)
    assert "set.jsonl:2: the line has" in refusal(content)
    monkeypatch.setattr(golden, "_MAX_CASES", 1)
    assert "has 2 cases, at most 1" in refusal(content)
    monkeypatch.setattr(golden, "MAX_GOLDEN_SET_BYTES", len(content) - 1)
    assert f"has {len(content)} bytes" in refusal(content)


def test_a_set_is_read_with_the_digest_of_its_bytes() -> None:
    content = lines({**HEADER, "thresholds": {"answers": 0.9}}, ANSWER, TEXT)
    found = parse_golden_set(content, where="x")
    assert found.digest == digest_of(content)
    assert found.header == Header(golden_set=1, name="small", thresholds={"answers": 0.9})
    assert [one.id for one in found.cases] == ["france", "text"]
    assert found.cases[1].reference == (Position("a", None), Position("b", -0.5, {"b": -0.5}))
    assert parse_golden_set(content[:-1], where="x").cases == found.cases  # the last line may have no end


_TEXTS = st.text('ab \n"é☃', min_size=1, max_size=5)
_LOGPROBS = st.floats(min_value=-9998, max_value=0)
_PLACES = st.builds(Position, _TEXTS, _LOGPROBS, st.dictionaries(_TEXTS, _LOGPROBS, max_size=3))


def _cases() -> st.SearchStrategy[Case]:
    asked: dict[str, Any] = {
        "id": st.just("one"),
        "max_tokens": st.none() | st.integers(1, 4096),
        "stop": st.lists(_TEXTS, max_size=4).map(tuple),
        "expect": st.just((Expectation(contains="x"),)),
        "reference": st.none() | st.lists(_PLACES, min_size=1, max_size=3).map(tuple),
        "tolerance": st.none() | st.floats(0.001, 100),
    }
    chats = st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=_TEXTS)
    chat = st.builds(Case, chat=st.lists(chats, min_size=1, max_size=3).map(tuple), **asked)
    return chat | st.builds(Case, completion=_TEXTS, **asked) | st.builds(Case, id=st.just("t"), text=_TEXTS)


@settings(max_examples=20)
@given(_cases(), _TEXTS)
def test_what_is_written_is_read_again(case: Case, name: str) -> None:
    header = Header(golden_set=1, name=name)
    content = encode_golden_set(header, (case,))
    assert parse_golden_set(content, where="x").cases == (case,)
    assert encode_golden_set(header, (case,)) == content
