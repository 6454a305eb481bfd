"""Imported by the fork server before it forks the engine's process: half of a start is these imports.

The fork server and every process forked from it end with their parent, whatever ended it: a killed model server must
not leave an engine behind that holds its memory. The fork server's own rule (leave when nobody holds its "alive" pipe)
is not enough: the engine inherits that pipe, so each would keep the other.

The forked engine says where it stands in its load, and which exception ended it (`_reports`).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pratique.inference.engines._cpu_adapters import leave_base_requests_alone
from pratique.inference.engines._process import die_with_parent, faster_imports, go_first_when_memory_is_short
from pratique.inference.engines._reports import Sender
from pratique.inference.engines._run_folder import RunFolder

__all__ = ["PARENT_VARIABLE", "wrap_engine"]

PARENT_VARIABLE = "PRATIQUE_ENGINE_PARENT"
"""The process id of the model server; it makes this module act when it is imported."""
_SHARE_STEP = 0.05


def wrap_engine() -> None:
    """Wrap the engine's main function, which then sets its process up and has its steps and its end reported."""
    from vllm.platforms import current_platform
    from vllm.v1.engine.core import EngineCoreProc

    run = EngineCoreProc.run_engine_core

    def run_engine_core(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed through
        config = options["vllm_config"]
        if config.lora_config is not None and current_platform.is_cpu():
            leave_base_requests_alone()
        folder = config.additional_config
        if isinstance(folder, RunFolder):
            _settle(folder.path)
            sender = Sender(folder.reports)
            _report_phases(sender)
            _report_death(EngineCoreProc, sender)
        run(*arguments, **options)

    EngineCoreProc.run_engine_core = staticmethod(run_engine_core)


def _settle(folder: Path) -> None:
    """Keep temporary files in the run's folder: what a killed engine leaves is removed with it."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)


def _report_phases(sender: Sender) -> None:
    from vllm.model_executor.model_loader import default_loader
    from vllm.v1.engine.core import EngineCore

    worker = _worker()
    sender.enter("process", "setting up the engine's process")
    _announce(worker, "load_model", lambda: sender.enter("weights", "loading weights", 0.0))
    _announce(EngineCore, "_initialize_kv_caches", lambda: sender.enter("kv_cache", "sizing the KV cache"))
    _announce(worker, "compile_or_warm_up_model", lambda: sender.enter("compile", "preparing kernels"))
    default_loader.safetensors_weights_iterator = _counted(default_loader.safetensors_weights_iterator, sender)


def _counted(iterate: Any, sender: Sender) -> Any:  # noqa: ANN401 - a function of vLLM's, which has no types
    """Count the bytes of the tensors that `iterate` yields against those of the files."""

    def counted(files: list[str], *arguments: Any, **options: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
        total = sum(Path(file).stat().st_size for file in files) or 1
        done, told = 0, 0.0
        for name, tensor in iterate(files, *arguments, **options):
            share = min(1.0, done / total)
            if share >= told + _SHARE_STEP:
                told = share
                sender.enter("weights", "loading weights", round(share, 3))
            yield name, tensor
            done += tensor.nbytes

    return counted


def _report_death(core: Any, sender: Sender) -> None:  # noqa: ANN401 - a class of vLLM's, which has no types
    """Report the exception that ends the loop before vLLM tells the server that the engine is dead, and a failed start.

    Also empties the allocator's cache whenever the KV cache is reset: on a GPU that gives memory back. (On the CPU
    vLLM makes it a no-op.)
    """
    import torch

    def say() -> None:
        error = sys.exc_info()[1]
        if error is not None:
            sender.die(error)

    _announce(core, "_send_engine_dead", say)
    build = core.__init__
    reset = core._reset_caches  # noqa: SLF001 - vLLM has no public name for it

    def building(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed through
        try:
            build(*arguments, **options)
        except Exception as error:
            sender.die(error)
            raise

    def resetting(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed through
        reset(*arguments, **options)
        torch.accelerator.empty_cache()

    core.__init__ = building
    core._reset_caches = resetting  # noqa: SLF001 - as above


def _announce(owner: Any, name: str, say: Any) -> None:  # noqa: ANN401 - classes of vLLM's, which have no types
    step = getattr(owner, name)

    def stepping(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed through
        say()
        return step(*arguments, **options)

    setattr(owner, name, stepping)


def _worker() -> Any:  # noqa: ANN401 - a class of vLLM's, which has no types
    """Return the class that holds the model. The CPU's takes torch.cuda away when it is imported."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_worker import CPUWorker

        return CPUWorker
    from vllm.v1.worker.gpu_worker import Worker

    return Worker


def _load() -> None:
    # For what it loads, in the process that is forked.
    import vllm.v1.engine.core  # noqa: F401

    _worker()


_FORK_SERVER = os.getpid()


def _in_forked_child() -> None:
    die_with_parent(_FORK_SERVER)
    # Ctrl-C in a terminal goes to the whole group: the server drains first and then ends its engine itself.
    os.setpgid(0, 0)
    go_first_when_memory_is_short()


if PARENT_VARIABLE in os.environ:
    die_with_parent(int(os.environ[PARENT_VARIABLE]))
    faster_imports(_load)
    os.register_at_fork(after_in_child=_in_forked_child)
    wrap_engine()
