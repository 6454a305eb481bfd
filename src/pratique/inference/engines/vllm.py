"""vLLM in this process: its own OpenAI application and its asynchronous engine, behind our gate. CPU and GPU builds.

With `_vllm_api` and `_preload` the only place that touches vLLM. Its internals move between releases, so `load_api`
checks at start that everything used is there and says which name is missing. What makes the start fast, each measured
by benchmarks/startup.py:

1. the engine's process is forked from a fork server that imports vLLM while this process does the same,
2. one worker inside the engine's process ("uni") instead of a process of its own,
3. the KV cache's size is given, so that no profiling run looks for it,
4. the garbage collector rests while the imports run.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from prometheus_client import REGISTRY, generate_latest
from starlette.types import ASGIApp

from pratique.inference.engines._preload import PARENT_VARIABLE, PHASES_VARIABLE
from pratique.inference.engines._prompt import ChatPrompts
from pratique.inference.engines._run_folder import environment, make_run_folder, phases_from
from pratique.inference.engines._vllm_api import configure, load_api
from pratique.inference.engines.interface import ChatMessage, GenerateRequest, Piece, Report
from pratique.inference.errors import EngineDeadError, EngineError, EngineLoadError
from pratique.inference.settings import InferenceSettings

__all__ = ["VllmEngine"]

_STEP_TIMEOUT_SECONDS: Final = 120.0
_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "TOKENIZERS_PARALLELISM": "false",
}


class VllmEngine:
    """Implements `Engine` over vLLM's AsyncLLM."""

    kind = "vllm"

    def __init__(self, settings: InferenceSettings, *, folder: Path, model: str) -> None:
        self.model = model
        self.max_model_len = settings.max_model_len
        self._settings = settings
        self._folder = folder
        self._run_folder: Path | None = None
        self._engine: Any = None
        self._app: Any = None
        self._prompts: ChatPrompts | None = None
        self._api: Any = None
        self._recorder: Any = None

    async def start(self, report: Report) -> None:
        report("importing the engine")
        self._run_folder = folder = self._prepare_process()
        try:
            self._api = await asyncio.to_thread(load_api)
            await self._load(folder, report)
        except EngineLoadError:
            raise
        except Exception as error:
            raise EngineLoadError(
                f"vLLM could not load the model in {self._folder}: {type(error).__name__}: {error}",
                hint="The lines above this one in the log are vLLM's own account.",
            ) from error

    def _prepare_process(self) -> Path:
        """Set what vLLM reads from the environment, and have the fork server import it. Return this run's folder."""
        folder = make_run_folder()
        os.environ.update(_ENVIRONMENT, VLLM_RPC_BASE_PATH=str(folder), OMP_NUM_THREADS=str(self._settings.threads))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        multiprocessing.set_forkserver_preload(["pratique.inference.engines._preload"])
        own = {PARENT_VARIABLE: str(os.getpid()), PHASES_VARIABLE: str(folder / "phases"), "TMPDIR": str(folder)}
        with environment(own):
            forkserver.ensure_running()
        return folder

    async def _load(self, folder: Path, report: Report) -> None:
        """Steps that import or compute for long run in threads: the event loop answers probes meanwhile."""
        api = self._api
        report("starting the engine's process")
        arguments, config = await asyncio.to_thread(configure, api, self._arguments())
        with phases_from(folder / "phases", report):
            self._engine = engine = await asyncio.to_thread(api.AsyncLLM.from_vllm_config, config)
        report("building the API")
        self._mute_metrics()
        tasks = await engine.get_supported_tasks()
        # The first rendering of a chat template imports and compiles; init_app_state would do it on the event loop.
        await asyncio.to_thread(engine.renderer.warmup, api.ChatParams())
        app = await asyncio.to_thread(api.build_app, arguments, tasks, engine.model_config)
        await api.init_app_state(engine, app.state, arguments, tasks)
        # On the engine's death vLLM's handlers tell "the server" to exit; ours watches `check` instead.
        app.state.server = SimpleNamespace(should_exit=False)
        self._app = app
        self._prompts = ChatPrompts(await asyncio.to_thread(engine.get_tokenizer))

    def _mute_metrics(self) -> None:
        # Read by the engine's output loop, which the first request starts; `count_requests` puts it back.
        self._recorder, self._engine.logger_manager = self._engine.logger_manager, None

    def count_requests(self) -> None:
        engine = self._engine
        engine.logger_manager = self._recorder
        if hasattr(engine, "_logger_ref"):
            engine._logger_ref[0] = self._recorder  # noqa: SLF001 - the one place that the output loop reads

    def _arguments(self) -> list[str]:
        settings = self._settings
        values = {
            "--model": self._folder,
            "--served-model-name": self.model,
            "--dtype": settings.dtype,
            "--max-model-len": settings.max_model_len,
            "--max-num-seqs": settings.max_num_seqs,
            "--block-size": settings.block_size,
            "--kv-cache-memory-bytes": settings.kv_cache_memory_bytes,
            "--distributed-executor-backend": "uni",
            # Never the pickle-based formats, whatever else lies in the folder.
            "--load-format": "safetensors",
            # The answer to a question does not depend on the defaults that a model's folder may carry.
            "--generation-config": "vllm",
        }
        flags = ["--enforce-eager", "--enable-prefix-caching", "--disable-uvicorn-access-log"]
        return [*flags, *[part for name, value in values.items() for part in (name, str(value))]]

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "") -> list[int]:
        assert self._prompts is not None  # noqa: S101 - narrows the type: nothing is encoded before the start
        return self._prompts.encode(messages, prefix=prefix)

    def count(self, text: str) -> int:
        assert self._prompts is not None  # noqa: S101 - narrows the type: nothing is counted before the start
        return self._prompts.count(text)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        api = self._api
        parameters = api.SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            stop=list(request.stop) or None,
            seed=request.seed,
            output_kind=api.RequestOutputKind.DELTA,
        )
        num_tokens = 0
        prompt = {"prompt_token_ids": list(request.prompt)}
        try:
            async with aclosing(self._engine.generate(prompt, parameters, request.request_id)) as outputs:
                async for output in outputs:
                    step = output.outputs[0]
                    num_tokens += len(step.token_ids)
                    finish = step.finish_reason
                    yield Piece(text=step.text, completion_tokens=num_tokens, finish_reason=_finish(finish))
        except api.EngineDeadError as error:
            raise EngineDeadError("The engine died while it was generating.") from error
        except (ValueError, RuntimeError, api.EngineGenerateError) as error:
            raise EngineError(f"The engine refused or lost the request: {error}") from error

    async def reset_prefix_cache(self) -> None:
        await asyncio.wait_for(self._engine.reset_prefix_cache(), _STEP_TIMEOUT_SECONDS)

    def check(self) -> None:
        if self._engine is None or self._engine.errored:
            raise EngineDeadError("vLLM's engine process has ended.")

    @property
    def openai_app(self) -> ASGIApp:
        app: ASGIApp = self._app
        return app

    def metrics(self) -> bytes:
        return generate_latest(REGISTRY)

    async def aclose(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            # Its output loop calls the end that is asked for here an error, with a trace.
            logging.getLogger("vllm").setLevel(logging.CRITICAL)
            await asyncio.to_thread(engine.shutdown)
        if self._run_folder is not None:
            shutil.rmtree(self._run_folder, ignore_errors=True)


def _finish(reason: str | None) -> Any:  # noqa: ANN401 - narrowed below
    if reason in (None, "stop", "length"):
        return reason
    raise EngineError(f"The engine ended the request with '{reason}'.")
