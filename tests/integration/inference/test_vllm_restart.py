"""vLLM as an engine in this process: killed, stopped, short of memory, flushed; it comes back, and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.integration.inference.vllm_kit import (
    ANSWER,
    HIDDEN,
    QUESTION,
    SETTINGS,
    STORY,
    Phases,
    all_running,
    ask,
    chat,
    death_of,
    endings,
    engine_processes,
    files_of_vllm,
    kill,
    long_requests,
    nobody,
    own_temporary_files,
    until,
    write_adapter,
)

from pratique.inference.engines.interface import Adapter, EnginePhase
from pratique.inference.errors import (
    DeathCause,
    EngineDeadError,
    EngineError,
    EngineFlushedError,
    EngineLoadError,
    UnknownModelError,
    UnreleasedArtifactError,
    UnsafeWeightsError,
)

if TYPE_CHECKING:
    from pratique.inference.engines.vllm import VllmEngine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.vllm,
    pytest.mark.slow,  # a restart takes two seconds where nobody else is, and a first start twelve
    pytest.mark.timeout(240),
    # vLLM and torch warn of themselves when they are imported.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests of this module: they share an engine."""
    return "asyncio"


@pytest.fixture(scope="module")
def adapter_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [write_adapter(root / str(seed), seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def phases() -> Phases:
    return Phases()


@pytest.fixture(scope="module")
async def engine(model_root: Path, adapter_folders: list[Path], phases: Phases) -> AsyncIterator[VllmEngine]:
    from pratique.inference.engines.vllm import VllmEngine as Engine

    folder = model_root / "smollm2-135m-instruct"
    adapters = [Adapter(name="first", folder=adapter_folders[0])]
    engine = Engine(SETTINGS, folder=folder, model="small", adapters=adapters)
    # pytest keeps what is logged, with tracebacks, and those hold dead engines.
    log = logging.getLogger("vllm")
    level = log.level
    await engine.start(phases)
    log.setLevel(logging.CRITICAL + 1)
    engine.count_requests()
    try:
        yield engine
    finally:
        await engine.aclose()
        log.setLevel(level)


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """A start that failed leaves a context of pyzmq's, which warns when it is collected: here nobody minds."""
    yield
    gc.collect()


@pytest.fixture
async def living(engine: VllmEngine) -> VllmEngine:
    """The engine, whatever the test before has done to it."""
    try:
        engine.check()
    except EngineDeadError:
        await engine.restart(nobody)
    return engine


async def test_a_start_reports_every_phase_in_order(engine: VllmEngine, phases: Phases) -> None:
    assert engine.adapters == ("first",)
    assert phases.order == list(EnginePhase)
    shares = [share for phase, _, share in phases.heard if phase is EnginePhase.WEIGHTS and share is not None]
    assert shares[0] == 0.0
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


async def test_the_pulse_counts_iterations_and_what_is_in_flight(living: VllmEngine) -> None:
    before = living.pulse()
    tasks = long_requests(living)
    await all_running(living, tasks)
    during = living.pulse()
    assert during.num_unfinished == len(tasks)
    assert during.num_iterations > before.num_iterations
    assert 0 < during.kv_usage < 1
    await living.flush()
    await endings(tasks, within_seconds=1)
    await until(lambda: living.pulse().num_unfinished == 0)
    assert living.pulse().cpu_seconds > before.cpu_seconds


async def test_a_flush_ends_what_runs_with_an_error_and_goes_on(living: VllmEngine) -> None:
    tasks = long_requests(living)
    await all_running(living, tasks)
    began = time.monotonic()
    await living.flush()
    assert time.monotonic() - began < 5
    ended = await endings(tasks, within_seconds=1)
    assert type(ended["generate"]) is EngineFlushedError
    assert type(ended["adapter"]) is EngineFlushedError
    assert ended["chat"][0] == ended["completion"][0] == 503
    for way in ("chat, streamed", "completion, streamed"):
        assert '"code": 503' in ended[way][1]
        assert ended[way][1].endswith("data: [DONE]\n\n")
    assert await ask(living) == ANSWER
    await until(lambda: living.pulse().num_unfinished == 0)
    await until(lambda: living.pulse().kv_usage == 0)


async def test_a_flush_of_an_idle_engine_is_harmless(living: VllmEngine) -> None:
    await living.flush()
    await asyncio.gather(living.flush(), living.flush())
    assert await ask(living) == ANSWER


async def test_killed_in_mid_batch_every_request_ends_and_a_restart_brings_all_back(living: VllmEngine) -> None:
    app, pid = living.openai_app, living.pids
    tasks = long_requests(living)
    await all_running(living, tasks)
    kill(living)
    ended = await endings(tasks, within_seconds=1)
    for way in ("generate", "adapter"):
        assert type(ended[way]) is EngineDeadError
        assert ended[way].cause is DeathCause.KILLED
    assert ended["chat"][0] == ended["completion"][0] == 500
    for way in ("chat, streamed", "completion, streamed"):
        assert '"error"' in ended[way][1]
        assert ended[way][1].endswith("data: [DONE]\n\n")
    assert "-9" in (await death_of(living)).message
    with pytest.raises(EngineDeadError):
        await ask(living)
    with pytest.raises(EngineDeadError):
        await living.reset_prefix_cache()
    assert (await chat(living)).status == 500
    phases = Phases()
    await living.restart(phases)
    assert phases.order == [phase for phase in EnginePhase if phase is not EnginePhase.IMPORTS]
    assert living.openai_app is app
    assert living.pids != pid
    assert await ask(living) == ANSWER
    assert (await chat(living)).json()["choices"][0]["message"]["content"] == ANSWER
    assert living.adapters == ("first",)
    assert await ask(living, adapter="first") != ANSWER
    assert (await chat(living, "first")).json()["choices"][0]["message"]["content"] != ANSWER


async def test_a_stopped_engine_looks_alive_but_its_pulse_stands_and_a_restart_ends_it(living: VllmEngine) -> None:
    tasks = long_requests(living)
    await all_running(living, tasks)
    pids = living.pids
    kill(living, signal.SIGSTOP)
    await asyncio.sleep(0.3)
    first = living.pulse()
    await asyncio.sleep(0.3)
    assert living.pulse() == first
    assert first.num_unfinished == len(tasks)
    living.check()
    restarting = asyncio.ensure_future(living.restart(nobody))
    ended = await endings(tasks, within_seconds=1)
    assert type(ended["generate"]) is EngineDeadError
    assert ended["chat"][0] == 500
    await restarting
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert await ask(living) == ANSWER


async def test_out_of_memory_is_told_from_a_kill(living: VllmEngine) -> None:
    (pid,) = living.pids
    # Not a byte more than it has: what is larger than what it freed before is refused.
    size = psutil.Process(pid).memory_info().data
    resource.prlimit(pid, resource.RLIMIT_DATA, (size, size))
    tasks = [asyncio.ensure_future(ask(living, "word " * 900, max_tokens=60, key=str(n))) for n in range(6)]
    await asyncio.wait(tasks, timeout=30)
    kinds = {type(task.exception()) for task in tasks}
    assert EngineDeadError in kinds
    assert kinds <= {EngineDeadError, type(None)}, "a reply that was whole by then is no error"
    assert (await death_of(living)).cause is DeathCause.OUT_OF_MEMORY
    await living.restart(nobody)
    assert await ask(living) == ANSWER


async def test_a_fork_server_that_dies_takes_the_engine_along_and_is_started_again(living: VllmEngine) -> None:
    (pid,) = living.pids
    parent = psutil.Process(pid).parent()
    assert parent is not None
    parent.kill()
    await death_of(living)
    await living.restart(nobody)
    assert await ask(living) == ANSWER


async def test_restarts_leave_nothing_behind(living: VllmEngine) -> None:
    process = psutil.Process()

    async def again() -> tuple[int, int, int, int]:
        kill(living)
        await death_of(living)
        await living.restart(nobody)
        assert await ask(living) == ANSWER
        return (
            process.num_fds(),
            process.num_threads(),
            len(asyncio.all_tasks()),
            len(process.children(recursive=True)),
        )

    first = await again()
    memory = process.memory_info().rss
    last = [await again() for _ in range(3)][-1]
    assert all(now <= then + 2 for now, then in zip(last, first, strict=True)), (first, last)
    assert process.memory_info().rss < memory * 1.05
    assert len(own_temporary_files()) == 1
    assert files_of_vllm() == []
    from prometheus_client import REGISTRY

    assert [family.name for family in REGISTRY.collect() if family.name.startswith("vllm")] == []
    lines = living.metrics().decode().splitlines()
    assert len([line for line in lines if line.startswith("vllm:num_requests_running{")]) == 1


@pytest.mark.parametrize("phase", [EnginePhase.WEIGHTS, EnginePhase.ADAPTERS])
async def test_a_cancelled_restart_leaves_no_process_and_can_be_repeated(
    living: VllmEngine, phase: EnginePhase
) -> None:
    others = engine_processes() - set(living.pids)
    kill(living)
    await death_of(living)
    phases = Phases()
    restarting = asyncio.ensure_future(living.restart(phases))
    await until(lambda: phase in phases.order)
    restarting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await restarting
    await until(lambda: engine_processes() <= others)
    assert own_temporary_files() == []
    with pytest.raises(EngineDeadError):
        living.check()
    await living.restart(nobody)
    assert await ask(living) == ANSWER


async def test_an_adapter_can_be_loaded_replaced_and_unloaded(living: VllmEngine, adapter_folders: list[Path]) -> None:
    text = "word " * 70 + QUESTION  # long enough to leave blocks in the prefix cache
    first = await ask(living, text, adapter="first")
    await living.load_adapter(Adapter(name="other", folder=adapter_folders[1]))
    assert list(living.adapters) == ["first", "other"]
    other = await ask(living, text, adapter="other")
    assert len({first, other, await ask(living, text)}) == 3
    await living.load_adapter(Adapter(name="other", folder=adapter_folders[0]))
    assert await ask(living, text, adapter="other") == first, "blocks of the adapter that had the name before were used"
    assert (await chat(living, "other")).json()["model"] == "other"
    await living.unload_adapter("other")
    assert list(living.adapters) == ["first"]
    with pytest.raises(UnknownModelError, match="first"):
        await ask(living, adapter="other")
    assert (await chat(living, "other")).status == 404
    with pytest.raises(EngineError, match="other"):
        await living.unload_adapter("other")


class Refusing:
    """A guard that lets no adapter through: before the engine reads it, or only once it has."""

    def __init__(self) -> None:
        self.refuses_at_once = True

    def wait_verified(self) -> None:
        raise AssertionError("only a start waits")

    def admit(self, folder: Path) -> Callable[[], None]:
        if self.refuses_at_once:
            self.refuse()
        return self.refuse

    def refuse(self) -> None:
        raise UnreleasedArtifactError("nobody signed it")


async def test_an_adapter_that_was_not_released_is_refused_and_the_engine_goes_on(
    living: VllmEngine, adapter_folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Refusing()
    monkeypatch.setattr(living, "_guard", guard)
    for refuses_at_once in (True, False):
        guard.refuses_at_once = refuses_at_once
        with pytest.raises(UnreleasedArtifactError, match="nobody signed it"):
            await living.load_adapter(Adapter(name="other", folder=adapter_folders[1]))
        assert living.adapters == ("first",)
        assert (await chat(living, "other")).status == 404
    assert await ask(living, adapter="first") != ANSWER


async def test_requests_with_and_without_an_adapter_in_one_batch_do_not_mix(
    living: VllmEngine, adapter_folders: list[Path]
) -> None:
    await living.load_adapter(Adapter(name="second", folder=adapter_folders[1]))
    alone = {name: await ask(living, adapter=name) for name in (None, "first", "second")}
    assert alone[None] == ANSWER
    names = [None, "first", None, "second", None]
    together = await asyncio.gather(*(ask(living, adapter=name, key=f"{number}") for number, name in enumerate(names)))
    assert [together[number] for number in (0, 2, 4)] == [ANSWER] * 3
    # bfloat16 rounds by batch: only the first words of nonsense are sure to be the same.
    assert together[1][:8] == alone["first"][:8]
    await living.unload_adapter("second")


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ("missing", EngineError, "not there"),
        ("pickle", UnsafeWeightsError, "adapter_model.bin"),
        ("rank", EngineError, "rank 32"),
        ("shape", EngineError, r"\[64, 4\]"),
        ("config", EngineError, "adapter_config.json"),
        ("torn", EngineError, "adapter_model.safetensors"),
        ("name", EngineError, "own name"),
    ],
)
async def test_an_adapter_that_does_not_fit_is_refused_and_the_engine_goes_on(
    living: VllmEngine, tmp_path: Path, bad: str, error: type[Exception], words: str
) -> None:
    folder = tmp_path / bad
    if bad != "missing":
        write_adapter(folder, 3, rank=32 if bad == "rank" else 4, hidden=64 if bad == "shape" else HIDDEN)
    if bad == "pickle":
        (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    if bad == "config":
        (folder / "adapter_config.json").write_text("[]")
    if bad == "torn":
        os.truncate(folder / "adapter_model.safetensors", 1000)
    with pytest.raises(error, match=words):
        await living.load_adapter(Adapter(name="small" if bad == "name" else "bad", folder=folder))
    assert living.adapters == ("first",)
    assert await ask(living) == ANSWER


async def test_two_engines_in_one_process_live_and_die_apart(living: VllmEngine, model_root: Path) -> None:
    from pratique.inference.engines.vllm import VllmEngine as Engine

    other = Engine(SETTINGS, folder=model_root / "smollm2-135m-instruct", model="other")
    # Both load at once: they take turns.
    kill(living)
    await death_of(living)
    await asyncio.gather(other.start(nobody), living.restart(nobody))
    try:
        assert [*await asyncio.gather(ask(living), ask(other))] == [ANSWER, ANSWER]
        assert b'model_name="other"' not in living.metrics()
        assert b'model_name="other"' in other.metrics()
        with pytest.raises(EngineError, match="started without adapters"):
            await other.load_adapter(Adapter(name="x", folder=model_root))
        story = asyncio.ensure_future(ask(other, STORY, max_tokens=60))
        await until(lambda: other.pulse().num_running == 1)
        pids = other.pids
        kill(living)
        await death_of(living)
        await living.restart(nobody)
        assert await story
        assert other.pids == pids
        assert [*await asyncio.gather(ask(living), ask(other))] == [ANSWER, ANSWER]
    finally:
        await other.aclose()
    assert await ask(living) == ANSWER
    with pytest.raises(EngineDeadError):
        other.check()


async def test_a_model_that_cannot_be_loaded_is_an_error_that_says_what_the_engine_said(
    living: VllmEngine, model_root: Path, tmp_path: Path
) -> None:
    from pratique.inference.engines.vllm import VllmEngine as Engine

    folder = tmp_path / "torn"
    folder.mkdir()
    for file in (model_root / "smollm2-135m-instruct").iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.safetensors").write_bytes(b"\x10" + b"\x00" * 7 + b"{}")
    broken = Engine(SETTINGS, folder=folder, model="broken")
    before = len(psutil.Process().children(recursive=True))
    with pytest.raises(EngineLoadError, match=r"The engine said: .*Safetensor"):
        await broken.start(nobody)
    await until(lambda: len(psutil.Process().children(recursive=True)) == before)
    assert len(own_temporary_files()) == 1
    await broken.aclose()
    assert await ask(living) == ANSWER


async def test_told_to_end_it_ends_every_process(living: VllmEngine) -> None:
    story = asyncio.ensure_future(ask(living, STORY, max_tokens=800))
    await until(lambda: living.pulse().num_running == 1)
    pids = living.pids
    await living.aclose()
    with pytest.raises(EngineDeadError):
        await story
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids), within_seconds=5)
    assert own_temporary_files() == []
    await living.aclose()
