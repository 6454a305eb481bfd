"""What decides without I/O: paths, tokens, words for errors."""

from __future__ import annotations

import json

import pytest

from pratique.core.errors import CallerError
from pratique.orchestrator.access.limits.interface import LimitExceededError
from pratique.orchestrator.api.openai.answers import event_of, refusal_of
from pratique.orchestrator.api.openai.routes import ROUTES, WrongMethodError, WrongPathError, find_route
from pratique.orchestrator.api.openai.usage import JsonTally, StreamTally, read_asked, tally_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1/responses/resp_1",
        "/v1/chat/completions/",
        "/v1/chat/completions/render",
        "/v1/../invocations",
        "/v1//models",
        "/V1/models",
    ],
)
def test_what_is_not_listed_is_not_there(path: str) -> None:
    with pytest.raises(WrongPathError):
        find_route("POST", path, path.encode())


def test_encoded_spelling_of_a_listed_path_is_none() -> None:
    with pytest.raises(WrongPathError):
        find_route("GET", "/v1/models", b"/v1/%6dodels")


@pytest.mark.parametrize("path", list(ROUTES))
def test_listed_paths_take_their_method_only(path: str) -> None:
    assert find_route(ROUTES[path], path, path.encode()) == path
    with pytest.raises(WrongMethodError) as refused:
        find_route("DELETE", path, path.encode())
    assert refused.value.allowed == ROUTES[path]


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"max_tokens": 10}', 4 + 10),
        (b'{"max_completion_tokens": 7, "max_tokens": 10}', 11 + 10),
        (b'{"max_completion_tokens": 0, "max_tokens": 9000}', 12 + 9000),
        (b'{"max_output_tokens": 9}', 6 + 9),
        (b'{"max_tokens": 10, "n": 3}', 6 + 30),
        (b'{"max_tokens": 10, "n": 3, "best_of": 20}', 10 + 200),
        (b'{"max_tokens": "10", "n": "2"}', 7 + 20),
        (b'{"max_tokens": 9.5, "n": 2.0}', 7 + 20),
        (b'{"max_tokens": -5, "n": -2}', 6 + 100),
        (b'{"max_tokens": null, "n": null, "prompt": null}', 11 + 100),
        (b'{"max_tokens": 9000, "stream": "perhaps", "user": 7}', 13 + 9000),
        (b'{"max_tokens": 9000, "stream": {}, "prompt": {}}', 12 + 9000),
        (b'{"prompt": "hello"}', 4 + 100),
        (b'{"prompt": ["a", "b", "c"], "max_tokens": 10, "n": 2}', 13 + 60),
        (b'{"prompt": [[1, 2], [3]], "max_tokens": 10}', 10 + 20),
        (b'{"prompt": [1, 2, 3], "max_tokens": 10}', 9 + 10),
        (b'{"prompt": [], "max_tokens": 10}', 8 + 10),
        (b'{"max_tokens": 99999999999999}', 2**31),
        (b'{"max_tokens": 1e300}', 2**31),
    ],
)
def test_no_less_is_reserved_than_an_engine_could_read(body: bytes, tokens: int) -> None:
    assert read_asked(body, is_json=True, default_max_tokens=100).tokens == tokens


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[1]",
        '{"max_tokens": 9000}'.encode("utf-16"),
        b'{"max_tokens": {}}',
        b'{"max_tokens": [9000]}',
        b'{"max_tokens": "many"}',
        b'{"max_tokens": "inf"}',
        b'{"n": "nan"}',
        b'{"max_tokens": NaN}',
        pytest.param(b'{"max_tokens": 9000, "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep"),
        b'{"max_tokens": 9000, "n": "\xff"}',
    ],
)
def test_what_is_no_number_here_is_refused(body: bytes) -> None:
    with pytest.raises(CallerError, match="Expected a"):
        read_asked(body, is_json=True, default_max_tokens=100)


@pytest.mark.parametrize(
    ("given", "is_stream"),
    [("true", True), ('"true"', True), ("1", True), ("false", False), ("null", False), ("[1]", False)],
)
def test_stream_is_read_leniently(given: str, is_stream: bool) -> None:
    assert read_asked(b'{"stream": %b}' % given.encode(), is_json=True, default_max_tokens=1).is_stream is is_stream


def test_body_that_is_no_json_is_not_measured() -> None:
    asked = read_asked(b"x" * 10_000, is_json=False, default_max_tokens=100)
    assert (asked.prompt_tokens, asked.tokens, asked.is_stream) == (0, 100, False)


def asked_for(body: bytes = b'{"stream": true, "max_tokens": 5}'):  # type: ignore[no-untyped-def] # noqa: ANN201 - test
    return read_asked(body, is_json=True, default_max_tokens=100)


def test_whole_answer_says_what_it_took() -> None:
    tally = tally_of(asked_for(), is_event_stream=False)
    assert isinstance(tally, JsonTally)
    tally.add(b'{"choices": [{"text": "\\"total_tokens\\": 1"}], "usage": {"total_')
    tally.add(b'tokens": 58}}')
    assert tally.tokens() == 58


def test_whole_answer_without_an_account_is_not_known() -> None:
    tally = JsonTally()
    tally.add(b'{"text": "hello"}')
    assert tally.tokens() is None


def test_huge_answer_says_what_it_took_at_its_end() -> None:
    tally = JsonTally()
    for _ in range(20):
        tally.add(b"x" * 100_000)
    tally.add(b'{"total_')
    tally.add(b'tokens": 1}')
    assert tally.tokens() == 1
    tally.add(b"x" * 100_000)
    assert tally.tokens() is None


def test_stream_is_counted_by_its_events() -> None:
    tally = tally_of(asked_for(), is_event_stream=True)
    assert isinstance(tally, StreamTally)
    for _ in range(3):
        tally.add(b'data: {"choices": []}\n\n')
    assert tally.tokens() == 8 + 3


def test_stream_that_says_what_it_took_is_believed() -> None:
    tally = StreamTally(asked_for())
    for _ in range(3000):
        tally.add(b'data: {"choices": [], "text": "\\"total_tokens\\": 1"}\n\n')
    tally.add(b'data: {"choices": [], "usage": {"prompt_tokens": 1, "total_to')
    tally.add(b'kens": 41}}\n\ndata: [DONE]\n\n')
    assert tally.tokens() == 41


def test_limit_is_said_as_openai_says_it() -> None:
    refusal = refusal_of(LimitExceededError("Too much.", limit="tokens", retry_after_seconds=1.2))
    assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
    assert dict(refusal.headers)[b"retry-after"] == b"2"
    error = json.loads(refusal.body)["error"]
    assert (error["type"], error["param"]) == ("rate_limit_error", None)
    assert error["message"].startswith("Too much.")


def test_fault_says_nothing_of_the_inside() -> None:
    refusal = refusal_of(RuntimeError("secret"))
    assert refusal.status == 500
    assert b"secret" not in refusal.body


def test_wrong_method_names_the_right_one() -> None:
    refusal = refusal_of(WrongMethodError("POST"))
    assert (refusal.status, dict(refusal.headers)[b"allow"]) == (405, b"POST")


def test_error_in_a_stream_is_an_event_of_its_own() -> None:
    event = event_of(CallerError("No."))
    assert event.startswith(b"\n\ndata: {")
    assert event.endswith(b"}\n\n")
