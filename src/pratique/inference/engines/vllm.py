"""vLLM in this process: its own OpenAI application and its asynchronous engine, behind our gate. CPU and GPU builds.

The only module that touches vLLM. Its internals move between releases, so `_load_api` checks at start that everything
used here is there and says which name is missing. What makes the start fast (each measured in benchmarks/startup.py):

1. the engine's process is forked from a fork server that imports vLLM while this process does the same,
2. one worker inside the engine's process ("uni") instead of a process of its own,
3. the KV cache's size is given, so that no profiling run looks for it.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from prometheus_client import REGISTRY, generate_latest
from starlette.types import ASGIApp

from pratique.core.events import get_logger
from pratique.inference.engines._preload import PARENT_VARIABLE, PHASES_VARIABLE
from pratique.inference.engines._process import faster_imports
from pratique.inference.engines.interface import ChatMessage, GenerateRequest, Piece, Report
from pratique.inference.errors import EngineDeadError, EngineError, EngineLoadError
from pratique.inference.settings import InferenceSettings

__all__ = ["VllmEngine"]

_LOG = get_logger("engine")
_STEP_TIMEOUT_SECONDS: Final = 120.0
_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "TOKENIZERS_PARALLELISM": "false",
}
_RUN_FOLDER: Final = "pratique-engine-"
_PHASE_BYTES: Final = 256
_USED: Final = {
    "SamplingParams": "vllm",
    "RequestOutputKind": "vllm.sampling_params",
    "AsyncEngineArgs": "vllm.engine.arg_utils",
    "AsyncLLM": "vllm.v1.engine.async_llm",
    "EngineDeadError": "vllm.v1.engine.exceptions",
    "EngineGenerateError": "vllm.v1.engine.exceptions",
    "FlexibleArgumentParser": "vllm.utils.argparse_utils",
    "UsageContext": "vllm.usage.usage_lib",
    "build_app": "vllm.entrypoints.launchers.app",
    "get_mp_context": "vllm.v1.engine.utils",
    "init_app_state": "vllm.entrypoints.launchers.api_server.app_state",
    "make_arg_parser": "vllm.entrypoints.launchers.cli_args",
    "validate_parsed_serve_args": "vllm.entrypoints.launchers.cli_args",
}
"""Everything that is used of vLLM, and where version 0.32 has it."""


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
        self._tokenizer: Any = None
        self._api: Any = None
        self._recorder: Any = None

    async def start(self, report: Report) -> None:
        report("importing the engine")
        self._run_folder = folder = self._prepare_process()
        try:
            self._api = await asyncio.to_thread(_load_api)
            await self._load(folder, report)
        except EngineLoadError:
            raise
        except Exception as error:
            raise EngineLoadError(
                f"vLLM could not load the model in {self._folder}: {type(error).__name__}: {error}",
                hint="The lines above this one in the log are vLLM's own account.",
            ) from error

    def _prepare_process(self) -> Path:
        """Set what vLLM reads from the environment, and have the fork server import it. Returns the folder of this run."""
        _remove_stale_run_folders()
        folder = Path(tempfile.mkdtemp(prefix=f"{_RUN_FOLDER}{os.getpid()}-"))
        os.environ.update(_ENVIRONMENT, VLLM_RPC_BASE_PATH=str(folder), OMP_NUM_THREADS=str(self._settings.threads))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        multiprocessing.set_forkserver_preload(["pratique.inference.engines._preload"])
        own = {PARENT_VARIABLE: str(os.getpid()), PHASES_VARIABLE: str(folder / "phases"), "TMPDIR": str(folder)}
        with _environment(own):
            forkserver.ensure_running()
        return folder

    async def _load(self, folder: Path, report: Report) -> None:
        """Steps that import or compute for long run in threads: the event loop answers probes meanwhile."""
        api = self._api
        report("starting the engine's process")
        arguments, config = await asyncio.to_thread(_configure, api, self._arguments())
        with _phases_from(folder / "phases", report):
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
        self._tokenizer = await asyncio.to_thread(engine.get_tokenizer)

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
            # The answer to a question does not depend on the defaults that a model's folder may carry.
            "--generation-config": "vllm",
        }
        flags = ["--enforce-eager", "--enable-prefix-caching", "--disable-uvicorn-access-log"]
        return [*flags, *[part for name, value in values.items() for part in (name, str(value))]]

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "") -> list[int]:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        opened: str = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return self._ids(opened + prefix)

    def count(self, text: str) -> int:
        return len(self._ids(text))

    def _ids(self, text: str) -> list[int]:
        # The template already wrote the special tokens.
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

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


def _configure(api: Any, arguments: list[str]) -> tuple[Any, Any]:  # noqa: ANN401 - vLLM publishes no types
    parsed = api.make_arg_parser(api.FlexibleArgumentParser()).parse_args(arguments)
    api.validate_parsed_serve_args(parsed)
    context = api.UsageContext.OPENAI_API_SERVER
    return parsed, api.AsyncEngineArgs.from_cli_args(parsed).create_engine_config(usage_context=context)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a process that is started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _phases_from(path: Path, report: Report) -> Iterator[None]:
    """Pass on what the loading engine says of itself (`_preload.report_phases`)."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.setblocking(False)
        loop.add_reader(receiver, lambda: report(receiver.recv(_PHASE_BYTES).decode(errors="replace")))
        try:
            yield
        finally:
            loop.remove_reader(receiver)


def _remove_stale_run_folders() -> None:
    """Remove what servers that were killed left in the temporary folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_RUN_FOLDER}*"):
        pid = folder.name.removeprefix(_RUN_FOLDER).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


_USED: Final = (
    ("vllm", ("SamplingParams",)),
    ("vllm.engine.arg_utils", ("AsyncEngineArgs",)),
    ("vllm.entrypoints.launchers.api_server.app_state", ("init_app_state",)),
    ("vllm.entrypoints.launchers.app", ("build_app",)),
    ("vllm.entrypoints.launchers.cli_args", ("make_arg_parser", "validate_parsed_serve_args")),
    ("vllm.renderers.params", ("ChatParams",)),
    ("vllm.sampling_params", ("RequestOutputKind",)),
    ("vllm.usage.usage_lib", ("UsageContext",)),
    ("vllm.utils.argparse_utils", ("FlexibleArgumentParser",)),
    ("vllm.v1.engine.async_llm", ("AsyncLLM",)),
    ("vllm.v1.engine.exceptions", ("EngineDeadError", "EngineGenerateError")),
    ("vllm.v1.engine.utils", ("get_mp_context",)),
)
_USED_METHODS: Final = ("from_vllm_config", "generate", "reset_prefix_cache", "get_supported_tasks", "shutdown", "errored")


def _load_api() -> SimpleNamespace:
    """Import what this module uses of vLLM, here and not at the top: it takes seconds.

    Raises:
        EngineLoadError: this vLLM lacks one of the names; the message says which.
    """
    api = SimpleNamespace()
    faster_imports(lambda: _collect(api))
    # vLLM knows "fork" and "spawn"; the fork server is both safe and fast.
    sys.modules["vllm.v1.engine.utils"].get_mp_context = (  # type: ignore[attr-defined]  # vLLM publishes no types
        lambda: multiprocessing.get_context("forkserver")
    )
    return api


def _collect(api: SimpleNamespace) -> None:
    for module, names in _USED:
        for name in names:
            try:
                setattr(api, name, getattr(importlib.import_module(module), name))
            except (ImportError, AttributeError) as error:
                raise _unknown_vllm(f"{module}.{name}") from error
    for method in _USED_METHODS:
        if not hasattr(api.AsyncLLM, method):
            raise _unknown_vllm(f"AsyncLLM.{method}")


def _unknown_vllm(name: str) -> EngineLoadError:
    return EngineLoadError(
        f"The installed vLLM does not have what is needed here: {name}.",
        hint="Install requirements/engine-cpu.txt (vLLM 0.32), or the same version of `vllm` on a GPU.",
    )
