"""An engine that dies, hangs or runs out of memory in a running server: what clients see, and that it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pratique.inference.containment.memory import GroupMemory, MemoryReading
from pratique.inference.errors import ArtifactError, DeathCause, EngineDeadError, EngineLoadError
from pratique.inference.settings import ContainmentSettings
from pratique.inference.slot import Artifacts

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Answer, Launch, Running

pytestmark = pytest.mark.unit

SLOW = {"token_seconds": 1.0, "reply_tokens": 4000}
LONG = [{"role": role, "content": "word " * 40} for _ in range(30) for role in ("user", "assistant")]
FULL = {"query": "q", "history": LONG, "max_tokens": 8}


def states(running: Running) -> list[str]:
    return [step.state.value for step in running.server.lifecycle.transitions]


async def stream(running: Running, **body: Any) -> asyncio.Task[Answer]:
    """Begin a stream, and return once it is in the engine."""
    task = asyncio.create_task(running.call("POST", "/invocations", {"query": "q", "stream": True, **body}))
    await running.wait_for(lambda: running.engine.pulse().num_unfinished > 0)
    return task


async def metrics(running: Running) -> str:
    return (await running.call("GET", "/metrics")).body.decode()


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (DeathCause.KILLED, "engine_dead"),
        (DeathCause.CRASHED, "engine_dead"),
        (DeathCause.OUT_OF_MEMORY, "capacity_limit"),
    ],
)
async def test_a_dead_engine_is_replaced_in_the_same_server(launch_fast: Launch, cause: DeathCause, code: str) -> None:
    running = launch_fast(simulated=SLOW)
    await running.until("traffic_ready")
    streams = [await stream(running) for _ in range(3)]
    whole = asyncio.create_task(running.call("POST", "/invocations", {"query": "q"}))
    await running.wait_for(lambda: running.engine.pulse().num_unfinished == 4)
    running.engine.die(cause)
    for answer in await asyncio.gather(*streams):
        name, error = answer.events()[-1]
        assert (name, error["code"], error["retryable"]) == ("error", code, True)
        assert ("fallback" in error) is (code == "capacity_limit")
    refused = await whole
    assert (refused.status, refused.json()["error"]["code"]) == (503, code)
    assert refused.headers["retry-after"] == "1"
    await running.wait_for(lambda: running.engine.num_starts == 2)
    await running.until("traffic_ready")
    assert states(running)[-2:] == ["degraded", "traffic_ready"]
    assert (await running.call("POST", "/invocations", {"query": "q", "max_tokens": 3})).status == 200
    text = await metrics(running)
    assert f'pratique_inference_oom_trips_total{{cause="{cause.value}",model="simulated"}} 1.0' in text
    assert 'engine_resets_total{kind="restart",model="simulated",outcome="ok"} 1.0' in text
    assert 'pratique_inference_breaker_state{model="simulated",state="open"} 1.0' in text


@pytest.mark.parametrize(
    ("cause", "code"), [(DeathCause.OUT_OF_MEMORY, "capacity_limit"), (DeathCause.HUNG, "not_ready")]
)
async def test_while_it_comes_back_nobody_waits(launch_fast: Launch, cause: DeathCause, code: str) -> None:
    running = launch_fast()
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(load_seconds=0.2)
    running.engine.die(cause)
    await running.wait_for(lambda: running.slot.phases.detail == "loading weights")
    refused = await running.call("POST", "/invocations", {"query": "q"})
    assert (refused.status, refused.json()["error"]["code"]) == (503, code)
    assert ("fallback" in refused.json()["error"]) is (code == "capacity_limit")
    openai = await running.call("POST", "/v1/chat/completions", {})
    assert (openai.status, openai.json()["error"]["code"]) == (503, code)
    ping = await running.call("GET", "/ping")
    assert (ping.status, ping.json()["state"], ping.json()["detail"]) == (503, "degraded", "loading weights")
    assert (await running.call("GET", "/livez")).status == 200
    await running.until("traffic_ready")
    incidents = (await running.call("GET", "/status")).json()["models"][0]["incidents"]
    assert [incident["kind"] for incident in incidents] == ["trip", "restart"]


async def test_a_hung_engine_is_found_and_replaced(launch_fast: Launch) -> None:
    running = launch_fast(simulated=SLOW, containment=ContainmentSettings(hang_seconds=3.0))
    await running.until("traffic_ready")
    call = await stream(running)
    running.engine.hang()
    last = (await call).events()[-1]
    assert (last[0], last[1]["code"]) == ("error", "engine_dead")
    await running.wait_for(lambda: running.engine.num_starts == 2)
    await running.until("traffic_ready")
    assert 'cause="hung"' in await metrics(running)


async def test_an_engine_with_nothing_to_do_does_not_hang(launch_fast: Launch) -> None:
    running = launch_fast(containment=ContainmentSettings(hang_seconds=0.05))
    await running.until("traffic_ready")
    await running.clock.sleep(5)
    assert running.engine.num_starts == 1


async def test_exhausted_blocks_flush_the_engine_and_nobody_loses_a_whole_reply(launch_fast: Launch) -> None:
    running = launch_fast(simulated={"token_seconds": 0.05, "reply_tokens": 400})
    await running.until("traffic_ready")
    with running.clock.held():
        whole = asyncio.create_task(running.call("POST", "/invocations", {"query": "q", "history": LONG}))
        await running.wait_for(lambda: running.engine.pulse().num_unfinished == 1)
        streamed = asyncio.create_task(running.call("POST", "/invocations", {"query": "q", "stream": True}))
        await running.wait_for(lambda: running.engine.pulse().num_unfinished == 2)
        running.engine.rehearse(kv_usage=0.97, num_preemptions=20, num_waiting=3)
    answer = await whole
    assert answer.status == 200
    assert answer.json()["is_reduced"] is True
    assert answer.json()["was_truncated"] is True
    assert answer.json()["total_tokens"] <= 1024
    last = (await streamed).events()[-1]
    assert (last[0], last[1]["code"], last[1]["retryable"]) == ("error", "capacity_limit", True)
    assert running.engine.num_starts == 1
    assert "degraded" not in states(running)
    text = await metrics(running)
    assert 'oom_trips_total{cause="kv_exhausted",model="simulated"} 1.0' in text
    assert 'oom_reduced_total{model="simulated"} 1.0' in text


async def test_restarts_in_vain_end_the_server(launch_fast: Launch) -> None:
    running = launch_fast(containment=ContainmentSettings(max_restarts_in_a_row=2))
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(fail_load=True, load_seconds=0)
    running.engine.die()
    with pytest.raises(EngineDeadError, match="2 restarts did not bring it back"):
        await running.task
    assert states(running)[-2:] == ["degraded", "failed"]


async def test_a_restart_past_its_deadline_counts_as_failed(launch_fast: Launch) -> None:
    settings = ContainmentSettings(max_restarts_in_a_row=1, restart_timeout_seconds=0.02)
    running = launch_fast(containment=settings)
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(load_seconds=60)
    running.engine.die()
    with pytest.raises(EngineDeadError):
        await running.task


async def test_told_to_stop_while_it_comes_back_it_stops(launch_fast: Launch) -> None:
    running = launch_fast()
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(load_seconds=60)
    running.engine.die()
    await running.until("degraded")
    running.stop.set()
    async with asyncio.timeout(5):
        await running.task
    assert states(running)[-2:] == ["draining", "stopped"]


@pytest.mark.slow
async def test_many_deaths_leave_the_same_server_and_no_task(launch_fast: Launch) -> None:
    running = launch_fast(simulated={"token_seconds": 0.5, "reply_tokens": 4000})
    await running.until("traffic_ready")
    before = asyncio.all_tasks()
    for number in range(15):
        call = await stream(running, max_tokens=400)
        running.engine.die()
        assert (await call).is_complete
        await running.wait_for(lambda number=number: running.engine.num_starts == number + 2)  # type: ignore[misc]
        await running.until("traffic_ready")
        answer = await running.call("POST", "/invocations", {"query": "hello", "max_tokens": 3})
        assert answer.json()["text"] == "You said: hello "
    assert asyncio.all_tasks() - before == set()
    assert 'oom_trips_total{cause="killed",model="simulated"} 15.0' in await metrics(running)


async def test_the_way_back_is_one_full_request(launch_fast: Launch) -> None:
    running = launch_fast(simulated={"token_seconds": 0.005, "reply_tokens": 30})
    await running.until("traffic_ready")
    running.engine.die()
    await running.wait_for(lambda: running.engine.num_starts == 2)
    await running.until("traffic_ready")
    reduced = (await running.call("POST", "/invocations", FULL)).json()
    assert (reduced["is_reduced"], reduced["total_tokens"] <= 1024) == (True, True)
    running.slot.breaker._half_open_at = 0.0  # the cool-down is over
    with running.clock.held():
        calls = [asyncio.create_task(running.call("POST", "/invocations", FULL)) for _ in range(8)]
        await running.wait_for(lambda: running.engine.pulse().num_unfinished == 8)
    answers = await asyncio.gather(*calls)
    whole = [answer for answer in answers if "is_reduced" not in answer.json()]
    assert len(whole) == 1
    assert running.slot.breaker.state.value == "closed"
    assert "is_reduced" not in (await running.call("POST", "/invocations", FULL)).json()
    assert 'oom_recoveries_total{model="simulated"} 1.0' in await metrics(running)


async def test_a_test_whose_client_leaves_makes_room_for_the_next(
    launch_fast: Launch, answer: Callable[[], Answer]
) -> None:
    running = launch_fast(containment=ContainmentSettings(cooldown_seconds=0.01), simulated=SLOW)
    await running.until("traffic_ready")
    running.engine.die()
    await running.wait_for(lambda: running.engine.num_starts == 2)
    await running.until("traffic_ready")
    await running.wait_for(lambda: running.slot.breaker.state.value == "half_open")
    reply = answer()
    body = {"query": "q", "history": LONG, "stream": True}
    call = asyncio.create_task(running.call.into(reply, "POST", "/invocations", body))
    await running.wait_for(lambda: running.slot.breaker.is_testing)
    reply.leave.set()
    await call
    assert not running.slot.breaker.is_testing
    assert running.slot.breaker.state.value == "half_open"


async def test_a_request_that_the_engine_refuses_does_not_keep_the_breaker_open(launch_fast: Launch) -> None:
    running = launch_fast()
    await running.until("traffic_ready")
    running.engine.die()
    await running.wait_for(lambda: running.engine.num_starts == 2)
    await running.until("traffic_ready")
    running.slot.breaker._half_open_at = 0.0  # the cool-down is over
    running.engine._settings = type(running.engine._settings)(fail_after_tokens=1, token_seconds=0)
    assert (await running.call("POST", "/invocations", FULL)).status == 500
    assert running.slot.breaker.state.value == "half_open"
    assert not running.slot.breaker.is_testing


async def test_what_must_be_there_and_does_not_fit_now_is_told_to_come_back(launch_fast: Launch) -> None:
    running = launch_fast()
    await running.until("traffic_ready")
    running.engine.die()
    await running.wait_for(lambda: running.engine.num_starts == 2)
    await running.until("traffic_ready")
    refused = await running.call("POST", "/invocations", {"query": "word " * 1100, "max_tokens": 8})
    assert (refused.status, refused.json()["error"]["code"]) == (503, "capacity_limit")


class Cgroup:
    """A container whose memory a test sets."""

    def __init__(self) -> None:
        self.used = 10

    def read(self) -> MemoryReading:
        group = GroupMemory(name="/", used_bytes=self.used, limit_bytes=100)
        return MemoryReading(groups=(group,), available_bytes=1000)


async def test_short_memory_sheds_then_flushes_then_restarts(launch_fast: Launch) -> None:
    cgroup = Cgroup()
    running = launch_fast(cgroup=cgroup, simulated=SLOW, containment=ContainmentSettings(cooldown_seconds=30))
    await running.until("traffic_ready")
    call = await stream(running)
    cgroup.used = 93
    await running.wait_for(lambda: running.server.memory.is_shedding)
    refused = await running.call("POST", "/invocations", {"query": "q"})
    assert (refused.status, refused.json()["error"]["code"]) == (503, "capacity_limit")
    assert not call.done()
    cgroup.used = 98
    last = (await call).events()[-1]
    assert last[1]["code"] == "capacity_limit"
    assert running.engine.num_starts == 1
    await running.wait_for(lambda: running.engine.num_starts == 2)
    cgroup.used = 50
    await running.wait_for(lambda: not running.server.memory.is_shedding)
    await running.until("traffic_ready")
    assert (await running.call("POST", "/invocations", {"query": "q", "max_tokens": 2})).status == 200
    status = (await running.call("GET", "/status")).json()["memory"]
    assert (status["headroom_bytes"], status["verdict"]) == (50, "ok")
    assert "pratique_inference_memory_headroom_bytes 50.0" in await metrics(running)


async def test_several_models_are_ready_when_all_are(launch_fast: Launch) -> None:
    running = launch_fast(models=("small", "large"))
    await running.until("traffic_ready")
    assert [slot["state"] for slot in (await running.call("GET", "/status")).json()["models"]] == ["ready", "ready"]
    large = await running.call("POST", "/invocations", {"query": "q", "model": "large", "max_tokens": 2})
    assert large.json()["model"] == "large"
    assert (await running.call("POST", "/invocations", {"query": "q", "max_tokens": 2})).json()["model"] == "small"
    listed = (await running.call("GET", "/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["small", "large"]
    body = {"model": "large", "messages": [{"role": "user", "content": "q"}], "max_tokens": 2}
    assert (await running.call("POST", "/v1/chat/completions", body)).json()["model"] == "large"


@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions"])
async def test_an_unknown_model_is_named_with_the_known_ones(launch_fast: Launch, path: str) -> None:
    running = launch_fast(models=("small", "large"))
    await running.until("traffic_ready")
    body = {"query": "q", "model": "other"} if path == "/invocations" else {"model": "other", "messages": []}
    answer = await running.call("POST", path, body)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "unknown_model")
    assert "small, large" in answer.json()["error"]["message"]


async def test_tiered_models_take_traffic_one_by_one(launch_fast: Launch) -> None:
    running = launch_fast(models=("small", "large"), readiness="tiered")
    running.engines[1]._settings = type(running.engines[1]._settings)(load_seconds=0.3)
    await running.until("traffic_ready")
    assert (await running.call("GET", "/ping")).status == 200
    body = {"query": "q", "max_tokens": 2}
    assert (await running.call("POST", "/invocations", {**body, "model": "small"})).status == 200
    refused = await running.call("POST", "/invocations", {**body, "model": "large"})
    assert (refused.status, refused.json()["error"]["code"]) == (503, "not_ready")
    chat = {"model": "large", "messages": [{"role": "user", "content": "q"}]}
    assert (await running.call("POST", "/v1/chat/completions", chat)).status == 503
    assert len((await running.call("GET", "/v1/models")).json()["data"]) == 1
    await running.wait_for(lambda: running.server.slots[1].is_ready)
    assert (await running.call("POST", "/invocations", {**body, "model": "large"})).status == 200


async def test_a_tiered_model_that_fails_is_left_out(launch_fast: Launch) -> None:
    running = launch_fast(models=("small", "large"), readiness="tiered")
    running.engines[0]._settings = type(running.engines[0]._settings)(fail_load=True, load_seconds=0)
    await running.until("traffic_ready")
    states_of = [model["state"] for model in (await running.call("GET", "/status")).json()["models"]]
    assert states_of == ["failed", "ready"]
    assert (await running.call("POST", "/invocations", {"query": "q", "model": "large"})).status == 200


async def test_tiered_models_that_all_fail_end_the_server(launch_fast: Launch) -> None:
    running = launch_fast(models=("small", "large"), readiness="tiered", simulated={"fail_load": True})
    with pytest.raises(EngineLoadError):
        await running.task


async def test_with_several_models_one_under_repair_does_not_stop_the_others(launch_fast: Launch) -> None:
    running = launch_fast(models=("small", "large"))
    await running.until("traffic_ready")
    running.engines[1]._settings = type(running.engines[1]._settings)(load_seconds=0.3)
    running.engines[1].die()
    await running.until("degraded")
    body = {"query": "q", "max_tokens": 2}
    assert (await running.call("GET", "/ping")).status == 503
    assert (await running.call("POST", "/invocations", {**body, "model": "small"})).status == 200
    assert (await running.call("POST", "/invocations", {**body, "model": "large"})).status == 503
    await running.until("traffic_ready")


async def test_weights_that_changed_since_the_start_are_not_loaded_again(launch_fast: Launch) -> None:
    changed: list[str] = []

    def confirm() -> None:
        if changed:
            raise ArtifactError("model.safetensors was written to.")

    running = launch_fast(artifacts=Artifacts(confirm=confirm))
    await running.until("traffic_ready")
    changed.append("yes")
    running.engine.die()
    with pytest.raises(ArtifactError):
        await running.task
    assert states(running)[-2:] == ["degraded", "failed"]


async def test_memory_that_was_short_during_the_load_restarts_nothing_after_it(launch_fast: Launch) -> None:
    running = launch_fast()
    running.slot.relieve(needs_restart=True)
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(load_seconds=0.1, token_seconds=0, first_token_seconds=0)
    running.engine.die()
    await running.until("degraded")
    running.slot.relieve(needs_restart=True)
    await running.until("traffic_ready")
    await asyncio.sleep(0.15)
    assert running.engine.num_starts == 2
    assert running.slot.breaker.trips == 1
