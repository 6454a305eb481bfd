"""What is used of vLLM, looked up in one place: its internals move, and a start must say which name is missing."""

from __future__ import annotations

import importlib
import multiprocessing
from types import SimpleNamespace
from typing import Any, Final

from pratique.inference.engines._process import faster_imports
from pratique.inference.errors import EngineLoadError

__all__ = ["USED", "USED_METHODS", "configure", "load_api"]

USED: Final = {
    "SamplingParams": "vllm",
    "RequestOutputKind": "vllm.sampling_params",
    "AsyncEngineArgs": "vllm.engine.arg_utils",
    "AsyncLLM": "vllm.v1.engine.async_llm",
    "ChatParams": "vllm.renderers.params",
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
"""Every name that is used of vLLM, and where version 0.32 has it."""
USED_METHODS: Final = (
    "errored",
    "from_vllm_config",
    "generate",
    "get_supported_tasks",
    "reset_prefix_cache",
    "shutdown",
)
"""Those of AsyncLLM."""


def load_api() -> SimpleNamespace:
    """Import it: this takes seconds and belongs into a thread.

    Raises:
        EngineLoadError: this vLLM lacks one of the names; the message says which.
    """
    api = SimpleNamespace()
    faster_imports(lambda: _collect(api))
    # vLLM knows "fork" and "spawn"; the fork server is both safe and fast.
    engine_utils: Any = importlib.import_module(USED["get_mp_context"])
    engine_utils.get_mp_context = lambda: multiprocessing.get_context("forkserver")
    return api


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
