"""The life of a server: what it goes through, what ends it, how it drains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.inference.errors import (
    ArtifactError,
    EngineLoadError,
    WarmupError,
    WarmupManifestError,
    WarmupTimeoutError,
)
from pratique.inference.run import build
from pratique.inference.slot import Artifacts

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Launch, Running

    from pratique.inference.settings import InferenceSettings

pytestmark = pytest.mark.unit

SLOW = {"token_seconds": 0.005, "reply_tokens": 4000}


def states(running: Running) -> list[str]:
    return [step.state.value for step in running.server.lifecycle.transitions]


async def test_it_becomes_ready_through_every_state(launch: Launch, tmp_path: Path) -> None:
    running = launch()
    await running.until("traffic_ready")
    assert states(running) == ["starting", "process_alive", "model_loaded", "traffic_ready"]
    status = (await running.call("GET", "/status")).json()
    assert status["schema_version"] == 1
    shapes = ["short", "medium", "long", "catch-all"]
    assert (status["warmup"]["done"], status["warmup"]["pending"]) == (shapes, [])
    assert [shape["name"] for shape in status["models"][0]["last_warmup"]["shapes"]] == shapes
    assert status["detail"] == "ready"
    assert (status["progress"], status["eta_seconds"], status["error"]) == (None, None, None)
    assert set(status["timings"]) == {"weights", "warmup", "ready"}
    assert status["memory_bytes"] > 1_000_000
    assert (tmp_path / "last.json").exists()


async def test_the_second_start_knows_how_long_it_takes(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text('{"imports": 5.0, "weights": 15.0, "warmup": 2.0}')
    running = launch(simulated={"load_seconds": 60.0})
    await running.until("process_alive")
    await running.wait_for(lambda: running.slot.phases.detail == "loading weights")
    status = running.server.probe()
    assert status["progress"] == pytest.approx(0.25, abs=0.01)
    assert status["eta_seconds"] == pytest.approx(17.0, abs=0.5)


async def test_a_missing_model_is_fetched_before_the_load(launch: Launch) -> None:
    seen: list[tuple[object, object]] = []

    def fetch(progress: Callable[[str, float], None]) -> None:
        progress("reading", 0.5)
        seen.append((running.slot.phases.detail, running.slot.phases.progress()))
        progress("done", 1.0)

    def verify(progress: Callable[[float], None]) -> None:
        progress(0.25)
        seen.append((running.slot.phases.detail.split("; ")[-1], None))

    running = launch(artifacts=Artifacts(fetch=fetch, verify=verify))
    await running.until("traffic_ready")
    assert seen == [("importing the model: reading", 0.5), ("verifying checksums 25%", None)]
    assert {"import", "verify"} <= set(running.slot.phases.timings)


async def test_a_failed_load_fails_the_server_and_says_so(launch: Launch) -> None:
    running = launch(simulated={"fail_load": True})
    with pytest.raises(EngineLoadError):
        await running.task
    status = (await running.call("GET", "/status")).json()
    assert status["state"] == "failed"
    assert status["error"]["code"] == "model_load_failure"
    assert b"pratique_inference_model_load_failure_total 1.0" in (await running.call("GET", "/metrics")).body
    assert (await running.call("GET", "/ping")).status == 503
    assert (await running.call("GET", "/livez")).status == 200


async def test_files_that_differ_from_their_manifest_are_never_served(launch: Launch) -> None:
    def verify(progress: Callable[[float], None]) -> None:
        raise ArtifactError("model.safetensors has SHA-256 x, expected y.")

    running = launch(artifacts=Artifacts(verify=verify), simulated={"load_seconds": 60.0})
    with pytest.raises(ArtifactError):
        await running.task
    assert states(running) == ["starting", "process_alive", "failed"]


async def test_a_load_past_its_deadline_fails(launch: Launch) -> None:
    running = launch(load_timeout_seconds=0.02, simulated={"load_seconds": 60.0})
    with pytest.raises(EngineLoadError, match="loading weights"):
        await running.task
    assert states(running)[-1] == "failed"


async def test_a_warmup_past_its_deadline_names_what_was_done(launch: Launch) -> None:
    running = launch(warmup_timeout_seconds=0.05, simulated={"first_token_seconds": 60.0})
    with pytest.raises(WarmupTimeoutError, match="done: none; pending: short, medium, long"):
        await running.task
    assert states(running) == ["starting", "process_alive", "model_loaded", "failed"]
    assert b"pratique_inference_warmup_timeout_total 1.0" in (await running.call("GET", "/metrics")).body


async def test_one_failed_shape_blocks_readiness(launch: Launch) -> None:
    running = launch(simulated={"fail_after_tokens": 2})
    with pytest.raises(WarmupError, match="'short' failed"):
        await running.task
    assert "traffic_ready" not in states(running)
    assert b"pratique_inference_warmup_timeout_total 0.0" in (await running.call("GET", "/metrics")).body


async def test_a_drain_lets_running_requests_finish(launch: Launch) -> None:
    running = launch(simulated={"token_seconds": 0.005, "reply_tokens": 30})
    await running.until("traffic_ready")
    call = asyncio.create_task(running.call("POST", "/invocations", {"query": "q", "stream": True}))
    await running.wait_for(lambda: running.server.gate.num_in_flight > 0)
    running.stop.set()
    await running.until("draining")
    refused = await running.call("POST", "/invocations", {"query": "q"})
    assert (refused.status, refused.json()["error"]["code"]) == (503, "draining")
    assert (await running.call("GET", "/ping")).status == 503
    assert (await call).events()[-1][0] == "end"
    await running.task
    assert states(running)[-2:] == ["draining", "stopped"]


async def test_a_drain_past_its_time_ends_streams_with_an_error(launch: Launch) -> None:
    running = launch(drain_seconds=0.05, simulated=SLOW)
    await running.until("traffic_ready")
    call = asyncio.create_task(running.call("POST", "/invocations", {"query": "q", "stream": True}))
    await running.wait_for(lambda: running.server.gate.num_in_flight > 0)
    began = time.monotonic()
    running.stop.set()
    await running.task
    assert time.monotonic() - began < 2
    last = (await call).events()[-1]
    assert last[0] == "error"
    assert (last[1]["code"], last[1]["retryable"]) == ("draining", True)


@pytest.mark.parametrize("state", ["process_alive", "traffic_ready"])
async def test_told_to_stop_it_stops_from_any_state(launch: Launch, state: str) -> None:
    running = launch(simulated={"load_seconds": 60.0 if state == "process_alive" else 0.0})
    await running.until(state)
    running.stop.set()
    async with asyncio.timeout(5):
        await running.task
    assert states(running)[-2:] == ["draining", "stopped"]


async def test_a_shape_that_does_not_fit_in_its_template_is_left_to_the_catch_all(
    launch: Launch, tmp_path: Path
) -> None:
    manifest = tmp_path / "warmup.toml"
    shapes = [
        f'[[shapes]]\nname = "{name}"\nprompt_tokens = {tokens}' for name, tokens in (("wide", 2044), ("small", 9))
    ]
    manifest.write_text("\n".join(["schema_version = 1", *shapes]))
    running = launch(warmup=manifest)
    await running.until("traffic_ready")
    assert running.server.probe()["warmup"]["done"] == ["small", "catch-all"]  # type: ignore[index]  # a table


def test_a_manifest_for_another_model_is_known_before_anything_is_loaded(
    make_settings: Callable[..., InferenceSettings], tmp_path: Path
) -> None:
    manifest = tmp_path / "warmup.toml"
    manifest.write_text('schema_version = 1\nmodel = "other"\n[[shapes]]\nname = "a"\nprompt_tokens = 9\n')
    with pytest.raises(WarmupManifestError, match="'other'"):
        build(make_settings(warmup=manifest))


async def test_nothing_is_left_running(launch: Launch) -> None:
    before = asyncio.all_tasks()
    running = launch()
    await running.until("traffic_ready")
    bodies: list[Any] = [b"{", {"query": "q"}, {"query": "q", "stream": True}, {"nope": 1}]
    await asyncio.gather(*(running.call("POST", "/invocations", body) for body in bodies * 25))
    running.stop.set()
    await running.task
    assert asyncio.all_tasks() - before == set()


def test_a_simulated_server_keeps_no_file_of_its_starts(make_settings: Callable[..., InferenceSettings]) -> None:
    """A file that stood for "nowhere" was replaced: as root, that was the device /dev/null."""
    assert build(make_settings()).slots[0]._timings is None
