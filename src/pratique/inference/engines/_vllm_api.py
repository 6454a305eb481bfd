"""What is used of vLLM, looked up in one place: its internals move, and a start must say which name is missing."""

from __future__ import annotations

import importlib
from functools import reduce
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

from pratique.inference.engines._process import EngineContext, faster_imports
from pratique.inference.errors import EngineLoadError

__all__ = [
    "USED",
    "USED_METHODS",
    "USED_PARTS",
    "check_parts",
    "configure",
    "end_renderer",
    "keep_renderer",
    "load_api",
    "use_context",
    "use_renderer",
]

USED: Final = {
    "SamplingParams": "vllm",
    "RequestOutputKind": "vllm.sampling_params",
    "AsyncEngineArgs": "vllm.engine.arg_utils",
    "AsyncLLM": "vllm.v1.engine.async_llm",
    "ChatParams": "vllm.renderers.params",
    "EngineDeadError": "vllm.v1.engine.exceptions",
    "EngineGenerateError": "vllm.v1.engine.exceptions",
    "FlexibleArgumentParser": "vllm.utils.argparse_utils",
    "GracefulHTTPError": "vllm.exceptions",
    "LoRARequest": "vllm.lora.request",
    "UsageContext": "vllm.usage.usage_lib",
    "build_app": "vllm.entrypoints.launchers.app",
    "get_mp_context": "vllm.v1.engine.utils",
    "init_app_state": "vllm.entrypoints.launchers.api_server.app_state",
    "make_arg_parser": "vllm.entrypoints.launchers.cli_args",
    "renderer_from_config": "vllm.renderers",
    "validate_parsed_serve_args": "vllm.entrypoints.launchers.cli_args",
}
"""Every name that is used of vLLM, and where version 0.32 has it."""
USED_METHODS: Final = (
    "abort",
    "add_lora",
    "errored",
    "from_vllm_config",
    "generate",
    "get_num_unfinished_requests",
    "get_supported_tasks",
    "remove_lora",
    "reset_prefix_cache",
    "resume_generation",
    "shutdown",
)
"""Those of AsyncLLM."""
USED_PARTS: Final = (
    "engine_core.pause_scheduler_async",
    "engine_core.resources.ctx",
    "engine_core.resources.engine_dead",
    "logger_manager.record",
    "output_handler",
    "output_processor.propagate_error",
    "output_processor.request_states",
    "renderer.clear_mm_cache_async",
    "renderer.warmup",
)
"""What is used of an AsyncLLM that is built."""


def load_api() -> SimpleNamespace:
    """Import it: this takes seconds and belongs into a thread.

    Raises:
        EngineLoadError: this vLLM lacks one of the names; the message says which.
    """
    api = SimpleNamespace()
    faster_imports(lambda: _collect(api))
    api.FlushedError = type("FlushedError", (_Flushed, api.GracefulHTTPError), {})
    return api


class _Flushed:
    """Given to the requests that a flush ends; vLLM's own handlers answer 503."""

    def __init__(self) -> None:
        message = "The model had to drop this request, to get memory back. Please send it again in a moment."
        super().__init__(message, HTTPStatus.SERVICE_UNAVAILABLE)  # type: ignore[call-arg]  # of the other base


def use_context(context: EngineContext) -> None:
    """Have the processes of the next engine made by `context`.

    vLLM itself knows "fork" and "spawn"; the fork server is both safe and fast.
    """
    engine_utils: Any = importlib.import_module(USED["get_mp_context"])
    engine_utils.get_mp_context = lambda: context


def use_renderer(api: SimpleNamespace, renderer: Any) -> None:  # noqa: ANN401 - vLLM's renderer
    """Have the next engine use a renderer that was kept; None has it make its own.

    Each would hold its own copies of the tokenizer: half a second of a restart, and tens of megabytes.
    """
    async_llm: Any = importlib.import_module(USED["AsyncLLM"])
    async_llm.renderer_from_config = api.renderer_from_config if renderer is None else lambda _config: renderer


def keep_renderer(renderer: Any) -> Any:  # noqa: ANN401 - vLLM's renderer
    """Return it, made to outlive its engine: an engine ends its renderer when it ends, or fails to start."""
    renderer.shutdown = lambda: None
    return renderer


def end_renderer(renderer: Any) -> None:  # noqa: ANN401 - vLLM's renderer
    """End a renderer that was kept."""
    type(renderer).shutdown(renderer)


def check_parts(engine: Any) -> None:  # noqa: ANN401 - vLLM's AsyncLLM
    """Raise EngineLoadError where a built engine lacks one of `USED_PARTS`."""
    for path in USED_PARTS:
        try:
            reduce(getattr, path.split("."), engine)
        except AttributeError as error:
            raise _unknown_vllm(f"AsyncLLM().{path}") from error


def configure(api: SimpleNamespace, arguments: list[str]) -> tuple[Any, Any]:
    """Return the parsed arguments of vLLM's server, and its engine's configuration from them."""
    parsed = api.make_arg_parser(api.FlexibleArgumentParser()).parse_args(arguments)
    api.validate_parsed_serve_args(parsed)
    context = api.UsageContext.OPENAI_API_SERVER
    return parsed, api.AsyncEngineArgs.from_cli_args(parsed).create_engine_config(usage_context=context)


def _collect(api: SimpleNamespace) -> None:
    for name, module in USED.items():
        try:
            setattr(api, name, getattr(importlib.import_module(module), name))
        except (ImportError, AttributeError) as error:
            raise _unknown_vllm(f"{module}.{name}") from error
    for method in USED_METHODS:
        if not hasattr(api.AsyncLLM, method):
            raise _unknown_vllm(f"AsyncLLM.{method}")


def _unknown_vllm(name: str) -> EngineLoadError:
    return EngineLoadError(
        f"The installed vLLM does not have what is needed here: {name}.",
        hint="Install requirements/engine-cpu.txt (vLLM 0.32), or the same version of `vllm` on a GPU.",
    )
