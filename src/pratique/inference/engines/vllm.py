"""vLLM in this process: its own OpenAI application and its asynchronous engine, behind our gate. CPU and GPU builds.

The modules `_vllm_api`, `_preload`, `_life` and this one are the only places that touch vLLM. Its internals move
between releases, so each start checks that everything used is there and says which name is missing. What makes the
start fast, each measured by benchmarks/startup.py:

1. the engine's process is forked from a fork server that imports vLLM while this process does the same,
2. one worker inside the engine's process ("uni") instead of a process of its own,
3. the KV cache's size is given, so that no profiling run looks for it,
4. the garbage collector rests while the imports run.

A restart keeps what is slow to make and cannot be broken by a dead engine: this process with its imports, the fork
server with its, the configuration, the application, the tokenizer.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import ASGIApp

from pratique.inference.engines._adapters import MAX_ADAPTERS, AdapterTable, check_adapter, link_adapter
from pratique.inference.engines._host import ensure_fork_server, turn_to_load
from pratique.inference.engines._life import Life
from pratique.inference.engines._prompt import ChatPrompts
from pratique.inference.engines._stats import move_collectors
from pratique.inference.engines._vllm_api import configure, end_renderer, keep_renderer, load_api
from pratique.inference.engines.interface import (
    Adapter,
    ChatMessage,
    EnginePhase,
    FinishReason,
    GenerateRequest,
    Guard,
    Piece,
    PromptCosts,
    Pulse,
    Report,
    Unguarded,
)
from pratique.inference.errors import (
    ArtifactError,
    EngineDeadError,
    EngineError,
    EngineFlushedError,
    EngineLoadError,
    UnsafeWeightsError,
)
from pratique.inference.settings import InferenceSettings

__all__ = ["VllmEngine"]

_ANSWER_SECONDS: Final = 30.0
"""For what the engine does between two iterations, of which one may take long."""
_NO_PULSE: Final = Pulse(
    num_iterations=0, num_unfinished=0, num_running=0, num_waiting=0, kv_usage=0.0, num_preemptions=0, cpu_seconds=0.0
)


class VllmEngine:
    """Implements `Engine` over vLLM's AsyncLLM."""

    kind = "vllm"

    def __init__(
        self,
        settings: InferenceSettings,
        *,
        folder: Path,
        model: str,
        adapters: Sequence[Adapter] = (),
        guard: Guard | None = None,
    ) -> None:
        self.model = model
        self.max_model_len = settings.max_model_len
        self._settings = settings
        self._folder = folder
        self._first_adapters = tuple(adapters)
        self._guard = guard or Unguarded()
        self._table = AdapterTable(base=model)
        self._changing_adapters = asyncio.Lock()
        self._api: Any = None
        self._arguments: Any = None
        self._renderer: Any = None
        self._life: Life | None = None
        self._app: Any = None
        self._prompts: ChatPrompts | None = None
        self._app_registry = CollectorRegistry()
        self._is_counting = False

    async def start(self, report: Report) -> None:
        report(EnginePhase.IMPORTS, "waiting for its turn to load")
        async with turn_to_load():
            ensure_fork_server(threads=self._settings.threads)
            report(EnginePhase.IMPORTS, "importing the engine")
            self._api = await asyncio.to_thread(load_api)
            # Up to here nothing of the model was opened.
            await asyncio.to_thread(self._guard.wait_verified)
            await self._load(report)
        await self._load_adapters(self._first_adapters, report)

    async def restart(self, report: Report) -> None:
        report(EnginePhase.PROCESS, "ending what is left of the engine")
        await self._end_life()
        self._is_counting = False  # until it is warm again
        async with turn_to_load():
            # Where it lives, this does nothing.
            ensure_fork_server(threads=self._settings.threads)
            await self._load(report)
        await self._load_adapters(self._table.all(), report)
        # Dead engines are held in cycles, with their pipes; the imports are exempted, so it takes milliseconds.
        await asyncio.to_thread(gc.collect)

    async def _load(self, report: Report) -> None:
        """Steps that import or compute for long run in threads: the event loop answers probes meanwhile."""
        report(EnginePhase.PROCESS, "starting the engine's process")
        life = Life(self._api, report, is_counting=self._is_counting)
        try:
            # Anew for each life: vLLM writes into it what the engine finds out.
            self._arguments, config = await asyncio.to_thread(configure, self._api, self._flags())
            await life.begin(config, self._renderer)
            report(EnginePhase.API, "building the API")
            await self._serve(life)
        except BaseException as error:
            await asyncio.shield(life.end())
            if isinstance(error, Exception) and not isinstance(error, EngineLoadError):
                said = f" The engine said: {life.said}." if life.said else ""
                raise EngineLoadError(
                    f"vLLM could not load the model in {self._folder}: {type(error).__name__}: {error}.{said}",
                    hint="The lines above this one in the log are vLLM's own account.",
                ) from error
            raise
        self._life = life

    async def _serve(self, life: Life) -> None:
        """Have the application answer by this life's engine."""
        api, engine = self._api, life.engine
        tasks = await life.ask(engine.get_supported_tasks(), within_seconds=_ANSWER_SECONDS)
        if self._renderer is None:
            self._renderer = keep_renderer(engine.renderer)
            # The first rendering of a chat template imports and compiles; init_app_state would do it on the event loop.
            await asyncio.to_thread(engine.renderer.warmup, api.ChatParams())
            self._prompts = ChatPrompts(await asyncio.to_thread(engine.get_tokenizer))
        else:
            await engine.renderer.clear_mm_cache_async()  # the new process has no images
        if self._app is None:
            self._app = await asyncio.to_thread(self._build_app, tasks, engine.model_config)
        await api.init_app_state(engine, self._app.state, self._arguments, tasks)

    def _build_app(self, tasks: object, model_config: object) -> Any:  # noqa: ANN401 - a FastAPI
        app = move_collectors(
            lambda: self._api.build_app(self._arguments, tasks, model_config), into=self._app_registry
        )
        # On the engine's death vLLM's handlers may tell "the server" to exit; ours watches `check` instead.
        app.state.server = SimpleNamespace(should_exit=False)
        return app

    def _flags(self) -> list[str]:
        settings = self._settings
        values: dict[str, object] = {
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
        if settings.num_gpu_blocks_override is not None:
            values["--num-gpu-blocks-override"] = settings.num_gpu_blocks_override
        if self._first_adapters:
            flags.append("--enable-lora")
            values["--max-lora-rank"] = settings.max_lora_rank
            values["--max-loras"] = len(self._first_adapters)
            values["--max-cpu-loras"] = MAX_ADAPTERS
        return [*flags, *[part for name, value in values.items() for part in (name, str(value))]]

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "", tools: str = "") -> list[int]:
        return self._known_prompts.encode(messages, prefix=prefix, tools=tools)

    def count(self, text: str) -> int:
        return self._known_prompts.count(text)

    @property
    def costs(self) -> PromptCosts:
        return self._known_prompts.costs

    @property
    def _known_prompts(self) -> ChatPrompts:
        assert self._prompts is not None  # noqa: S101 - narrows the type: nothing is encoded before the start
        return self._prompts

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        api, life = self._api, self._running()
        parameters = api.SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            stop=list(request.stop) or None,
            seed=request.seed,
            output_kind=api.RequestOutputKind.DELTA,
        )
        adapter = None if request.adapter is None else self._adapter(request.adapter)
        prompt = {"prompt_token_ids": list(request.prompt)}
        outputs = life.engine.generate(prompt, parameters, request.request_id, lora_request=adapter)
        num_tokens = 0
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    step = output.outputs[0]
                    num_tokens += len(step.token_ids)
                    finish = _finish(step.finish_reason)
                    yield Piece(text=step.text, completion_tokens=num_tokens, finish_reason=finish)
        except api.EngineDeadError as error:
            raise life.death() from error
        except api.FlushedError as error:
            raise _flushed() from error
        except (ValueError, RuntimeError, api.EngineGenerateError, api.GracefulHTTPError) as error:
            raise EngineError(f"The engine refused or lost the request: {error}") from error

    async def flush(self) -> None:
        life = self._running()
        await life.ask(life.engine.renderer.clear_mm_cache_async(), within_seconds=_ANSWER_SECONDS)
        await life.ask(self._drop_all(life), within_seconds=_ANSWER_SECONDS)

    async def _drop_all(self, life: Life) -> None:
        engine = life.engine
        dropped = list(engine.output_processor.request_states)
        # No await between the two: a request that comes later is behind the pause, and is not lost.
        engine.output_processor.propagate_error(self._api.FlushedError())
        await engine.engine_core.pause_scheduler_async(mode="abort", clear_cache=True)
        await engine.resume_generation()
        # Those that were on their way to the engine when it paused.
        await engine.abort(dropped, internal=True)

    async def reset_prefix_cache(self) -> None:
        life = self._running()
        await life.ask(life.engine.reset_prefix_cache(), within_seconds=_ANSWER_SECONDS)

    async def load_adapter(self, adapter: Adapter) -> None:
        async with self._changing_adapters:
            await self._load_adapter(adapter)

    async def _load_adapter(self, adapter: Adapter) -> None:
        if not self._first_adapters:
            raise EngineError(
                f"The adapter '{adapter.name}' cannot be loaded: this engine was started without adapters.",
                hint="Adapters cost memory and speed; name one in the settings at least.",
            )
        rank = self._settings.max_lora_rank
        confirm = await asyncio.to_thread(self._guard.admit, adapter.folder)
        await asyncio.to_thread(check_adapter, adapter, model=self._folder, max_rank=rank)
        life, load_id = self._running(), self._table.next_id(adapter)
        path = link_adapter(adapter, load_id, life.folder.path)
        request = self._api.LoRARequest(lora_name=adapter.name, lora_int_id=load_id, lora_path=str(path))
        try:
            await life.ask(life.engine.add_lora(request), within_seconds=_ANSWER_SECONDS)
        except EngineError:
            raise
        except Exception as error:
            raise EngineError(f"The adapter '{adapter.name}' does not fit the model: {error}") from error
        try:
            await asyncio.to_thread(confirm)
        except ArtifactError:
            await life.ask(life.engine.remove_lora(load_id), within_seconds=_ANSWER_SECONDS)
            raise
        before = self._table.put(adapter, load_id)
        self._lora_requests[adapter.name] = request
        if before is not None:
            await life.ask(life.engine.remove_lora(before.load_id), within_seconds=_ANSWER_SECONDS)

    async def unload_adapter(self, name: str) -> None:
        async with self._changing_adapters:
            life, loaded = self._running(), self._table.pop(name)
            self._lora_requests.pop(name, None)
            await life.ask(life.engine.remove_lora(loaded.load_id), within_seconds=_ANSWER_SECONDS)

    async def _load_adapters(self, adapters: Sequence[Adapter], report: Report) -> None:
        """Bring a new life to where it may serve; without them, also when this is cancelled, it is ended."""
        try:
            async with self._changing_adapters:
                for number, adapter in enumerate(adapters):
                    report(EnginePhase.ADAPTERS, f"loading the adapter {adapter.name}", number / len(adapters))
                    await self._load_adapter(adapter)
        except BaseException as error:
            await asyncio.shield(self._end_life())
            if isinstance(error, EngineError | UnsafeWeightsError):
                raise EngineLoadError(error.message, hint=error.hint) from error
            raise

    @property
    def adapters(self) -> tuple[str, ...]:
        return self._table.names

    @property
    def _lora_requests(self) -> dict[str, Any]:
        """The adapters that the application knows, by the name that requests give as `model`."""
        return cast("dict[str, Any]", self._app.state.openai_serving_models.lora_requests)

    def _adapter(self, name: str) -> Any:  # noqa: ANN401 - vLLM's LoRARequest
        self._table.get(name)
        return self._lora_requests[name]

    def count_requests(self) -> None:
        self._is_counting = True
        if self._life is not None:
            self._life.count_requests()

    def check(self) -> None:
        self._running()

    def _running(self) -> Life:
        if self._life is None:
            raise EngineDeadError("vLLM's engine is not running.")
        if self._life.is_over:
            raise self._life.death()
        return self._life

    def pulse(self) -> Pulse:
        return _NO_PULSE if self._life is None else self._life.pulse()

    @property
    def pids(self) -> list[int]:
        """The engine's processes, for whoever limits or watches them."""
        return [] if self._life is None else self._life.pids

    @property
    def openai_app(self) -> ASGIApp:
        return cast("ASGIApp", self._app)

    def metrics(self) -> bytes:
        text = generate_latest(self._app_registry)
        return text if self._life is None else text + generate_latest(self._life.registry)

    async def aclose(self) -> None:
        await self._end_life()
        renderer, self._renderer = self._renderer, None
        if renderer is not None:
            await asyncio.to_thread(end_renderer, renderer)

    async def _end_life(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            await life.end()


def _flushed() -> EngineFlushedError:
    return EngineFlushedError("The engine dropped the request, to get its memory back.")


def _finish(reason: str | None) -> FinishReason | None:
    match reason:
        case None | "stop" | "length":
            return reason
        case "abort":
            # Nobody else aborts a request whose reply is still read.
            raise _flushed()
    raise EngineError(f"The engine ended the request with '{reason}'.")
