"""What every engine must do, asked of the simulated one and of vLLM with the small model, over the whole server."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.inference.conftest import ServerProcess

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

LONG = {"query": "Write a long story about the sea.", "max_tokens": 400}


@pytest.fixture(scope="module")
def simulated_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    from tests.integration.inference.conftest import ServerProcess as Process

    folder: Path = tmp_path_factory.mktemp("simulated")
    simulated = '{"load_seconds": 0, "token_seconds": 0.005, "reply_tokens": 600}'
    server = Process(folder, "--engine", "simulated", PRATIQUE_INFERENCE_SIMULATED=simulated)
    try:
        server.ready(timeout=30)
        yield server
    finally:
        server.close()


@pytest.fixture(params=["simulated", pytest.param("vllm", marks=pytest.mark.vllm)])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    found: ServerProcess = request.getfixturevalue("real_server" if request.param == "vllm" else "simulated_server")
    return found


def text_of(events: list[tuple[str, Any]]) -> str:
    return "".join(data["text"] for name, data in events if name == "token")


def test_greedy_is_deterministic_and_streamed_is_whole(server: ServerProcess) -> None:
    body = {"query": "What is the capital of Japan?", "max_tokens": 24}
    whole = server.post("/invocations", body)[1]
    events = list(server.stream(body))
    assert text_of(events) == whole["text"] == server.post("/invocations", body)[1]["text"]
    assert events[0][0] == "start"
    assert events[0][1]["prompt_tokens"] == whole["usage"]["prompt_tokens"] == events[-1][1]["prompt_tokens"]
    assert events[-1][1]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert events[-1][1]["finish_reason"] == whole["finish_reason"]


def test_max_tokens_is_exact_and_ends_with_length(server: ServerProcess) -> None:
    answer = server.post("/invocations", {**LONG, "max_tokens": 7})[1]
    assert (answer["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 7)


def test_a_stop_text_ends_the_reply_before_it(server: ServerProcess) -> None:
    whole = server.post("/invocations", {**LONG, "max_tokens": 30})[1]["text"]
    word = whole.split()[5]
    answer = server.post("/invocations", {**LONG, "max_tokens": 30, "stop": [word]})[1]
    assert answer["finish_reason"] == "stop"
    assert answer["text"] == whole[: whole.index(word)]


def test_a_reply_is_continued_exactly_after_its_prefix(server: ServerProcess) -> None:
    body = {"query": "What is the capital of France?", "max_tokens": 40}
    events = list(server.stream(body))
    pieces = [data["text"] for name, data in events if name == "token"]
    whole = "".join(pieces)
    for place in range(1, len(pieces)):
        prefix = "".join(pieces[:place])
        if len(prefix) >= len(whole):
            break
        rest = server.post("/invocations", {**body, "prefix": prefix})[1]["text"]
        assert (prefix + rest).startswith(whole), f"after {prefix!r}"


def test_a_prefix_with_a_trailing_space_is_continued_without_another(server: ServerProcess) -> None:
    body = {"query": "What is the capital of France?", "max_tokens": 40}
    whole = server.post("/invocations", body)[1]["text"]
    prefix = whole[: whole.index(" ", 4) + 1]
    assert (prefix + server.post("/invocations", {**body, "prefix": prefix})[1]["text"]).startswith(whole)


def test_what_does_not_fit_is_an_error_with_numbers(server: ServerProcess) -> None:
    status, answer = server.post("/invocations", {"query": "word " * 5000})
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert "2048" in answer["error"]["message"]


def test_an_old_history_is_cut_by_whole_turns(server: ServerProcess) -> None:
    history = [{"role": role, "content": "word " * 100} for _ in range(40) for role in ("user", "assistant")]
    status, answer = server.post("/invocations", {"query": "And now?", "history": history, "max_tokens": 4})
    assert status == 200
    assert answer["was_truncated"]
    assert answer["turns_dropped"] % 2 == 0
    assert 2048 - 250 < answer["usage"]["prompt_tokens"] <= 2048 - 4


def test_a_client_that_leaves_aborts_the_engine(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/invocations", json.dumps({**LONG, "stream": True}))
    response = connection.getresponse()
    while b"event: token" not in response.readline():
        pass
    connection.sock.close()
    response.close()
    began = time.monotonic()
    server.wait_for(lambda: idle(server), timeout=10)
    # A reply of this length takes the engine several seconds.
    assert time.monotonic() - began < 2


def idle(server: ServerProcess) -> bool:
    text = server.get("/metrics")[1].decode()
    running = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
    in_engine = sum(float(line.rsplit(" ", 1)[1]) for line in running)
    return in_engine == 0 and "pratique_inference_in_flight 0.0" in text


def test_the_callers_deadline_ends_the_reply(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/invocations", json.dumps(LONG), {"x-pratique-timeout-seconds": "0.3"})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (504, "timeout")
    connection.close()
    server.wait_for(lambda: idle(server), timeout=10)


def test_two_requests_with_one_id_are_two_replies(server: ServerProcess) -> None:
    body = {"query": "What is the capital of Japan?", "max_tokens": 24, "request_id": "same"}
    first = server.stream(body)
    next(first)
    second = list(server.stream(body))
    assert text_of(list(first)) == text_of(second)


def test_the_openai_api(server: ServerProcess) -> None:
    models = json.loads(server.get("/v1/models")[1])
    name = models["data"][0]["id"]
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    status, answer = server.post("/v1/chat/completions", {"model": name, "messages": messages, "max_tokens": 8})
    assert status == 200
    assert answer["choices"][0]["message"]["content"]
    status, answer = server.post("/v1/chat/completions", {"model": "nope", "messages": messages})
    assert (status, answer["error"]["type"]) == (404, "NotFoundError")
    assert "nope" in answer["error"]["message"]


def test_metrics_are_ours_and_the_engines(server: ServerProcess) -> None:
    text = server.get("/metrics")[1].decode()
    assert 'pratique_inference_lifecycle_state{state="traffic_ready"} 1.0' in text
    assert "vllm:num_requests_running" in text or "simulated_generation_tokens_total" in text


def test_status_tells_the_whole_start(server: ServerProcess) -> None:
    status = server.status()
    assert [step["state"] for step in status["transitions"]] == [
        "starting",
        "process_alive",
        "model_loaded",
        "traffic_ready",
    ]
    assert status["warmup"]["done"] == ["short", "medium", "long"]
    assert {"load", "warmup", "ready"} <= set(status["timings"])
