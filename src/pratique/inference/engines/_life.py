"""One life of vLLM's engine: from the fork of its process until nothing of it is left.

A life is begun once and ended once. A restart ends one and begins another with the same configuration; what is to be
kept (the application, the adapters, the tokenizer) belongs to `VllmEngine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry

from pratique.inference.containment.cgroup import find_memory_cgroup
from pratique.inference.containment.incidents import classify
from pratique.inference.engines._process import EngineContext, cpu_seconds
from pratique.inference.engines._reports import Died, Entered, Message, Receiver
from pratique.inference.engines._run_folder import RunFolder, make_run_folder
from pratique.inference.engines._stats import Recorder, move_collectors
from pratique.inference.engines._vllm_api import check_parts, use_context, use_renderer
from pratique.inference.engines.interface import EnginePhase, Pulse, Report
from pratique.inference.errors import DeathCause, EngineDeadError, EngineError

__all__ = ["Life"]

_POLL_SECONDS: Final = 0.02
_END_SECONDS: Final = 10.0
_Answer = TypeVar("_Answer")


class Life:
    """Everything that belongs to one engine process."""

    def __init__(self, api: SimpleNamespace, report: Report, *, is_counting: bool) -> None:
        self.folder = RunFolder(make_run_folder())
        self.registry = CollectorRegistry()
        self.engine: Any = None
        """vLLM's AsyncLLM, once it is built."""
        self._api = api
        self._report: Report | None = report
        self._is_counting = is_counting
        self._context = EngineContext()
        self._recorder: Recorder | None = None
        self._said = ""
        self._cgroup = find_memory_cgroup()
        self._oom_kills_before = self._cgroup.read().num_oom_kills
        self._death: EngineDeadError | None = None
        self._receiver = Receiver(self.folder.reports, self._hear)

    async def begin(self, config: Any, renderer: Any) -> None:  # noqa: ANN401 - vLLM's VllmConfig and renderer
        """Build the engine, with a renderer of the life before. Cancelling it, or its failure, leaves no process."""
        config.additional_config = self.folder
        os.environ["VLLM_RPC_BASE_PATH"] = str(self.folder.path)
        use_context(self._context)
        use_renderer(self._api, renderer)
        building = asyncio.ensure_future(asyncio.to_thread(self._build, config))
        try:
            await asyncio.shield(building)
        except BaseException:
            await self._stop_building(building)
            raise
        finally:
            self._report = None

    def _build(self, config: Any) -> None:  # noqa: ANN401 - vLLM's VllmConfig
        """Blocks for seconds; the event loop answers probes meanwhile."""
        engine = move_collectors(lambda: self._api.AsyncLLM.from_vllm_config(config), into=self.registry)
        check_parts(engine)
        # Read by the engine's output loop, which the first request starts.
        self._recorder = engine.logger_manager = Recorder(engine.logger_manager, is_counting=self._is_counting)
        self.engine = engine

    async def _stop_building(self, building: asyncio.Future[None]) -> None:
        """A thread cannot be cancelled; without its processes it fails by itself."""
        deadline = time.monotonic() + _END_SECONDS
        while not building.done() and time.monotonic() < deadline:
            self._context.kill()
            await asyncio.sleep(_POLL_SECONDS)
        if building.done():
            building.exception()  # it was looked at
        await self.end()

    def count_requests(self) -> None:
        """Let vLLM's own metrics count from here on."""
        if self._recorder is not None:
            self._recorder.is_counting = True

    @property
    def is_over(self) -> bool:
        """Whether the engine has stopped."""
        return self.engine is None or bool(self.engine.errored)

    def death(self) -> EngineDeadError:
        """Return the error that says why it stopped, as far as it is known by now."""
        if self._death is not None:
            return _copy(self._death)
        self._receiver.read_all()
        code = self._context.exit_code
        cause = classify(
            code,
            self._said,
            oom_kills_before=self._oom_kills_before,
            oom_kills_after=self._cgroup.read().num_oom_kills,
        )
        how = "and is not gone yet" if code is None else f"with exit code {code}"
        said = f"; it said: {self._said}" if self._said else ""
        death = EngineDeadError(f"vLLM's engine has ended {how}{said}.", cause=cause)
        if code is not None:
            self._death = death
        return _copy(death)

    @property
    def pids(self) -> list[int]:
        """Of the processes that this life began."""
        return self._context.pids

    @property
    def said(self) -> str:
        """The exception that ended the engine, as it told it; "" where it told nothing."""
        self._receiver.read_all()
        return self._said

    def pulse(self) -> Pulse:
        """Return what is known here; asks neither the engine nor its process."""
        recorder, engine = self._recorder, self.engine
        return Pulse(
            num_iterations=recorder.num_iterations if recorder else 0,
            num_unfinished=int(engine.get_num_unfinished_requests()) if engine else 0,
            num_running=recorder.num_running if recorder else 0,
            num_waiting=recorder.num_waiting if recorder else 0,
            kv_usage=recorder.kv_usage if recorder else 0.0,
            num_preemptions=recorder.num_preemptions if recorder else 0,
            cpu_seconds=sum(cpu_seconds(pid) for pid in self._context.pids),
        )

    async def ask(self, question: Awaitable[_Answer], *, within_seconds: float) -> _Answer:
        """Await an answer of the engine's process. vLLM itself would wait for a dead one for ever.

        Raises EngineDeadError, or EngineError where it does not answer in time.
        """
        asking = asyncio.ensure_future(question)
        deadline = time.monotonic() + within_seconds
        try:
            while not asking.done():
                if self.is_over:
                    raise self.death()
                if time.monotonic() > deadline:
                    raise EngineError(f"vLLM's engine process did not answer within {within_seconds:.0f} s.")
                await asyncio.wait({asking}, timeout=_POLL_SECONDS)
            return asking.result()
        except self._api.EngineDeadError as error:
            raise self.death() from error
        finally:
            asking.cancel()

    async def end(self) -> None:
        """Kill what runs, give every request its error, and free everything. Can be called again."""
        engine, self.engine = self.engine, None
        if engine is not None and not engine.errored:
            self._death = EngineDeadError("vLLM's engine was ended while it ran.", cause=DeathCause.KILLED)
        self._context.kill()
        if engine is not None:
            await self._end_engine(engine)
        self._receiver.close()
        await asyncio.to_thread(shutil.rmtree, self.folder.path, ignore_errors=True)

    async def _end_engine(self, engine: Any) -> None:  # noqa: ANN401 - vLLM's AsyncLLM
        client = engine.engine_core
        client.resources.engine_dead = True  # refuses what comes from now on
        # vLLM's shutdown cancels its output loop, which then tells nobody that the engine is dead.
        if engine.output_handler is not None:
            engine.output_handler.cancel()
        engine.output_processor.propagate_error(self._api.EngineDeadError())
        context = client.resources.ctx
        await asyncio.to_thread(engine.shutdown, 0)
        await asyncio.sleep(0)  # the sockets are closed by a callback on this loop
        # Else its threads and pipes would stay until the garbage collector comes by.
        await asyncio.to_thread(context.destroy, 0)

    def _hear(self, message: Message) -> None:
        if isinstance(message, Died):
            self._said = self._said or message.text
        elif self._report is not None and isinstance(message, Entered):
            with contextlib.suppress(ValueError):  # a phase that is unknown here is of no use
                self._report(EnginePhase(message.phase), message.detail, message.share)


def _copy(death: EngineDeadError) -> EngineDeadError:
    """Each that raises it needs its own: a traceback is added to the error itself."""
    return EngineDeadError(death.message, cause=death.cause, hint=death.hint)
