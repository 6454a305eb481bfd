"""/invocations over the simulated engine: what is accepted, how a request ends, who stops it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pratique.inference.api.wire import Invocation, parse_invocation
from pratique.inference.engines.simulated import simulated_reply
from pratique.inference.errors import InvalidInvocationError

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Answer, Launch, Running

pytestmark = pytest.mark.unit

SIZES = {
    "system": 0,
    "context": 0,
    "query": 6,
    "pinned": 0,
    "recent": 0,
    "marker": 0,
    "template": 4,
    "output": 512,
}
WHOLE = simulated_reply("hello there", num_tokens=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
async def ready(launch: Launch) -> Running:
    running = launch()
    await running.until("traffic_ready")
    return running


async def test_a_whole_answer(ready: Running) -> None:
    answer = await ready.call("POST", "/invocations", {"query": "hello there", "request_id": "r1"})
    assert answer.status == 200
    assert answer.json() == {
        "request_id": "r1",
        "model": "simulated",
        "prompt_tokens": 10,
        "total_tokens": 522,
        "text": WHOLE,
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 10, "completion_tokens": 20},
        "was_truncated": False,
        "turns_dropped": 0,
        "passages_dropped": 0,
        "sizes": SIZES,
    }


async def test_a_stream_begins_with_start_and_ends_with_end(ready: Running) -> None:
    answer = await ready.call("POST", "/invocations", {"query": "hello there", "stream": True}, x_pratique_request="r2")
    events = answer.events()
    assert answer.headers["content-type"] == "text/event-stream"
    assert events[0] == (
        "start",
        {
            "request_id": "r2",
            "model": "simulated",
            "prompt_tokens": 10,
            "total_tokens": 522,
            "was_truncated": False,
            "turns_dropped": 0,
            "passages_dropped": 0,
            "sizes": SIZES,
        },
    )
    assert {name for name, _ in events[1:-1]} == {"token"}
    assert "".join(data["text"] for _, data in events[1:-1]) == WHOLE
    assert events[-1] == ("end", {"finish_reason": "stop", "prompt_tokens": 10, "completion_tokens": 20})


async def test_max_tokens_ends_with_length(ready: Running) -> None:
    answer = await ready.call("POST", "/invocations", {"query": "hello there", "max_tokens": 3})
    assert (answer.json()["text"], answer.json()["finish_reason"]) == ("You said: hello ", "length")


@pytest.mark.parametrize("place", range(0, len(WHOLE), 7))
async def test_a_prefix_is_continued_exactly(ready: Running, place: int) -> None:
    # Between words: a model cannot be told to finish half of a token it never said.
    place = WHOLE.rfind(" ", 0, place) + 1
    answer = await ready.call("POST", "/invocations", {"query": "hello there", "prefix": WHOLE[:place]})
    assert WHOLE[:place] + answer.json()["text"] == WHOLE


async def test_history_that_does_not_fit_is_reported(launch: Launch) -> None:
    running = launch()
    await running.until("traffic_ready")
    history = [{"role": role, "content": "word " * 50} for _ in range(40) for role in ("user", "assistant")]
    answer = await running.call("POST", "/invocations", {"query": "q", "history": history})
    assert answer.json()["was_truncated"]
    assert 0 < answer.json()["turns_dropped"] < 80
    assert answer.json()["prompt_tokens"] + 512 <= 2048


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        (b"", "invalid_request", 400),
        (b"{", "invalid_request", 400),
        (b"\xff\xfe", "invalid_request", 400),
        (b"[" * 100_000, "invalid_request", 400),
        ({}, "invalid_request", 400),
        ({"query": ""}, "invalid_request", 400),
        ({"query": 3}, "invalid_request", 400),
        ({"query": "q", "unknown": 1}, "invalid_request", 400),
        ({"query": "q", "max_tokens": 0}, "invalid_request", 400),
        ({"query": "q", "temperature": -1}, "invalid_request", 400),
        ({"query": "q", "history": [{"role": "system", "content": "x"}]}, "invalid_request", 400),
        ({"query": "q", "history": [{"role": "user", "content": "x", "name": "y"}]}, "invalid_request", 400),
        ({"query": "q", "stop": ["x"] * 9}, "invalid_request", 400),
        ({"query": "q", "stop": [""]}, "invalid_request", 400),
        ({"query": "q", "seed": 10**30}, "invalid_request", 400),
        ({"query": "q", "request_id": "x" * 200}, "invalid_request", 400),
        ({"query": "q", "max_tokens": 4000}, "context_length_exceeded", 400),
        ({"query": "word " * 3000}, "context_length_exceeded", 400),
        (b" " * (5 << 20), "body_too_large", 413),
    ],
)
async def test_what_cannot_be_served_is_refused_by_name(ready: Running, body: object, code: str, status: int) -> None:
    answer = await ready.call("POST", "/invocations", body)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]


async def test_the_numbers_are_in_the_error(ready: Running) -> None:
    answer = await ready.call("POST", "/invocations", {"query": "q", "max_tokens": 4000})
    assert "4000" in answer.json()["error"]["message"]
    assert "2048" in answer.json()["error"]["message"]


@given(st.dictionaries(st.sampled_from([*Invocation.__struct_fields__, "other"]), json_values))
def test_no_body_breaks_the_parser(body: dict[str, Any]) -> None:
    parsed = parsed_or_none(json.dumps(body).encode())
    assert parsed is None or ("other" not in body and parsed.query == body["query"])


def parsed_or_none(body: bytes) -> Invocation | None:
    try:
        return parse_invocation(body)
    except InvalidInvocationError:
        return None


@given(st.binary(max_size=60))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    with pytest.raises(InvalidInvocationError):
        parse_invocation(body)


async def test_only_post(ready: Running) -> None:
    answer = await ready.call("GET", "/invocations")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
async def test_a_deadline_that_is_none_is_refused(ready: Running, text: str) -> None:
    answer = await ready.call("POST", "/invocations", {"query": "q"}, x_pratique_timeout_seconds=text)
    assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_callers_deadline_ends_the_reply(launch: Launch, stream: bool) -> None:
    running = launch()
    await running.until("traffic_ready")
    hang(running)
    body = {"query": "q", "stream": stream}
    answer = await running.call("POST", "/invocations", body, x_pratique_timeout_seconds="0.05")
    if stream:
        assert answer.events()[-1][0] == "error"
        assert answer.events()[-1][1]["code"] == "timeout"
        assert answer.events()[-1][1]["retryable"] is False
    else:
        assert (answer.status, answer.json()["error"]["code"]) == (504, "timeout")
    assert running.closed == 1  # type: ignore[attr-defined]  # set by hang


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_aborts_the_engine(
    launch: Launch, answer: Callable[[], Answer], stream: bool
) -> None:
    running = launch()
    await running.until("traffic_ready")
    hang(running)
    reply = answer()
    call = asyncio.create_task(running.call.into(reply, "POST", "/invocations", {"query": "q", "stream": stream}))
    await running.begun.wait()  # type: ignore[attr-defined]  # set by hang
    reply.leave.set()
    async with asyncio.timeout(5):
        await call
    assert running.closed == 1  # type: ignore[attr-defined]  # set by hang
    assert not reply.is_complete


async def test_an_engine_error_before_the_first_token_is_an_answer(launch: Launch) -> None:
    running = launch()
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(fail_after_tokens=1, token_seconds=0)
    answer = await running.call("POST", "/invocations", {"query": "q"})
    assert (answer.status, answer.json()["error"]["code"]) == (500, "engine_error")


async def test_an_engine_error_in_a_stream_is_its_last_event(launch: Launch) -> None:
    running = launch()
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(fail_after_tokens=2, token_seconds=0)
    answer = await running.call("POST", "/invocations", {"query": "q", "stream": True})
    names = [name for name, _ in answer.events()]
    assert names == ["start", "token", "token", "error"]
    assert answer.events()[-1][1]["retryable"] is True


def hang(running: Any) -> None:
    """Let the engine say one token and then nothing, and count who closes it."""
    running.begun = asyncio.Event()
    running.closed = 0
    original = running.engine.generate

    async def generate(request: Any) -> Any:
        try:
            async for piece in original(request):
                yield piece
                running.begun.set()
                await asyncio.Event().wait()
        finally:
            running.closed += 1

    running.engine.generate = generate
