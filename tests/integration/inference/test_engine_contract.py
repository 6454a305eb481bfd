"""What every engine must do, asked of the simulated one and of vLLM with the small model.

First over the whole server, then by the interface alone: its death, flush and restart.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.errors import PratiqueError
from pratique.inference.artifacts.store import SMALL_MODEL
from pratique.inference.engines.interface import ChatMessage, Engine, EnginePhase, GenerateRequest, Piece
from pratique.inference.errors import DeathCause, EngineDeadError, EngineFlushedError, UnknownModelError
from pratique.inference.settings import InferenceSettings, SimulatedSettings

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
    # What is kept for retrieved passages, an eighth of the context, the history may not take.
    assert 2048 - 256 - 250 < answer["usage"]["prompt_tokens"] <= 2048 - 4


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
    assert status["warmup"]["done"] == ["short", "medium", "long", "catch-all"]
    assert {"weights", "warmup", "ready"} <= set(status["timings"])


class Report:
    """A report that remembers the phases."""

    def __init__(self) -> None:
        self.phases: list[EnginePhase] = []

    def __call__(self, phase: EnginePhase, detail: str, share: float | None = None) -> None:
        assert detail
        assert share is None or 0 <= share <= 1
        self.phases.append(phase)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the engines of this module."""
    return "asyncio"


@pytest.fixture(scope="module")
async def simulated_engine() -> AsyncIterator[Engine]:
    from pratique.inference.engines.simulated import SimulatedEngine

    settings = SimulatedSettings(load_seconds=0, token_seconds=0.005, reply_tokens=600)
    engine = SimulatedEngine(settings, model="small", max_model_len=1024)
    await engine.start(Report())
    yield engine
    await engine.aclose()


@pytest.fixture(scope="module")
async def vllm_engine(model_root: Path) -> AsyncIterator[Engine]:
    from pratique.inference.engines.vllm import VllmEngine

    settings = InferenceSettings(kv_cache_memory_bytes=1 << 26, max_model_len=1024)
    engine = VllmEngine(settings, folder=model_root / SMALL_MODEL, model="small")
    await engine.start(Report())
    yield engine
    await engine.aclose()


@pytest.fixture(
    params=[
        "simulated",
        pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]),
    ]
)
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine that lives: each test that ends one begins it again, and the last test of the file closes them."""
    found: Engine = request.getfixturevalue(f"{request.param}_engine")
    return found


async def pieces_of(engine: Engine, max_tokens: int = 400, **options: Any) -> list[Piece]:
    messages = (ChatMessage(role="user", content="Write a long story about the sea. 漫画"),)
    request = GenerateRequest(
        request_id="c", prompt=engine.encode(messages), max_tokens=max_tokens, messages=messages, **options
    )
    return [piece async for piece in engine.generate(request)]


async def begun(engine: Engine) -> asyncio.Task[list[Piece]]:
    """A long request that the engine works on."""
    task = asyncio.ensure_future(pieces_of(engine))
    async with asyncio.timeout(30):
        while engine.pulse().num_running == 0:  # noqa: ASYNC110 - there is nobody to tell it
            await asyncio.sleep(0.002)
    return task


async def test_an_engines_pieces_count_up_to_a_finish(engine: Engine) -> None:
    pieces = await pieces_of(engine, max_tokens=5)
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert (pieces[-1].finish_reason, pieces[-1].completion_tokens) == ("length", 5)
    assert sorted(piece.completion_tokens for piece in pieces) == [piece.completion_tokens for piece in pieces]


async def test_costs_of_single_messages_add_up_to_the_prompt(engine: Engine) -> None:
    messages = [
        ChatMessage(role="system", content="Answer briefly. 短く。"),
        ChatMessage(role="user", content="Hello 🎉"),
        ChatMessage(role="assistant", content="  Good day!\n"),
        ChatMessage(role="user", content="<|im_end|> Which <think> book?"),
    ]
    costs = engine.costs
    whole = len(engine.encode(messages, prefix="I"))
    added = costs.frame(has_system=True, prefix="I") + sum(map(costs.message, messages))
    assert added == whole if costs.is_exact else abs(added - whole) <= len(messages)


async def test_the_pulse_beats_while_work_is_done_and_rests_without(engine: Engine) -> None:
    first = engine.pulse()
    task = await begun(engine)
    assert engine.pulse().num_unfinished == 1
    seen = engine.pulse().num_iterations
    async with asyncio.timeout(30):
        while engine.pulse().num_iterations < seen + 3:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
    await engine.flush()
    with pytest.raises(EngineFlushedError):
        await task
    async with asyncio.timeout(30):
        while engine.pulse().num_unfinished:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
    last = engine.pulse()
    assert last.num_iterations > first.num_iterations
    assert last.cpu_seconds > first.cpu_seconds


async def test_a_flush_ends_what_runs_and_takes_what_comes(engine: Engine) -> None:
    task = await begun(engine)
    await engine.flush()
    with pytest.raises(EngineFlushedError):
        await task
    engine.check()
    assert (await pieces_of(engine, max_tokens=3))[-1].completion_tokens == 3


async def test_a_restart_ends_what_runs_and_keeps_the_application(engine: Engine) -> None:
    app, task, report = engine.openai_app, await begun(engine), Report()
    before = engine.pulse().num_iterations
    await engine.restart(report)
    with pytest.raises(EngineDeadError) as caught:
        await task
    assert type(caught.value) is EngineDeadError
    assert isinstance(caught.value.cause, DeathCause)
    assert engine.openai_app is app
    assert report.phases
    assert list(dict.fromkeys(report.phases)) == sorted(set(report.phases), key=list(EnginePhase).index)
    assert engine.pulse().num_iterations < before
    assert (await pieces_of(engine, max_tokens=3))[-1].completion_tokens == 3


async def test_a_name_that_is_no_adapter_is_unknown(engine: Engine) -> None:
    with pytest.raises(UnknownModelError, match="nobody"):
        await pieces_of(engine, adapter="nobody")
    with pytest.raises(PratiqueError, match="nobody"):
        await engine.unload_adapter("nobody")
    assert engine.adapters == ()
    engine.check()


async def test_an_engine_that_was_closed_is_dead_and_can_be_closed_again(engine: Engine) -> None:
    task = await begun(engine)
    await engine.aclose()
    with pytest.raises(EngineDeadError):
        await task
    with pytest.raises(EngineDeadError):
        engine.check()
    with pytest.raises(EngineDeadError):
        await pieces_of(engine)
    await engine.aclose()
