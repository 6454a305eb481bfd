"""Imported by the fork server before it forks the engine's process: half of a start is these imports.

The fork server and every process forked from it end with their parent, whatever ended it: a killed model server must
not leave an engine behind that holds its memory. The fork server's own rule (leave when nobody holds its "alive" pipe)
is not enough: the engine inherits that pipe, so each would keep the other.

The forked engine says where it stands in its load by datagrams to the server's socket; one that cannot be sent is
dropped, because nothing but a progress bar depends on it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pratique.inference.engines._process import die_with_parent, faster_imports

__all__ = ["PARENT_VARIABLE", "PHASES_VARIABLE", "report_phases"]

PARENT_VARIABLE = "PRATIQUE_ENGINE_PARENT"
"""The process id of the model server; it makes this module act when it is imported."""
PHASES_VARIABLE = "PRATIQUE_ENGINE_PHASES"
"""Path of the datagram socket that the model server reads."""


def report_phases(path: str) -> None:
    """Wrap the worker's steps so that each says its name to the socket at `path`."""
    from vllm.model_executor.model_loader import default_loader
    from vllm.v1.worker.cpu_worker import CPUWorker

    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)

    def say(text: str) -> None:
        try:
            sender.sendto(text.encode(), path)
        except OSError:
            return

    def announced(owner: Any, name: str, text: str) -> None:  # noqa: ANN401 - a class of vLLM's, which has no types
        step = getattr(owner, name)

        def stepping(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed through
            say(text)
            return step(*arguments, **options)

        setattr(owner, name, stepping)

    announced(CPUWorker, "load_model", "loading weights")
    announced(CPUWorker, "determine_available_memory", "sizing the KV cache")
    announced(CPUWorker, "compile_or_warm_up_model", "preparing kernels")
    iterate = default_loader.safetensors_weights_iterator

    def counted(files: list[str], *arguments: Any, **options: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
        total = sum(Path(file).stat().st_size for file in files) or 1
        done, told = 0, -1
        for name, tensor in iterate(files, *arguments, **options):
            percent = min(100, done * 100 // total)
            if percent >= told + 5:
                told = percent
                say(f"loading weights {percent} %")
            yield name, tensor
            done += tensor.nbytes

    default_loader.safetensors_weights_iterator = counted


def _load() -> None:
    # For what they load, in the process that is forked.
    import vllm.v1.engine.core
    import vllm.v1.worker.cpu_worker  # noqa: F401


_FORK_SERVER = os.getpid()


def _in_forked_child() -> None:
    die_with_parent(_FORK_SERVER)
    # Ctrl-C in a terminal goes to the whole group: the server drains first and then ends its engine itself.
    os.setpgid(0, 0)


if PARENT_VARIABLE in os.environ:
    die_with_parent(int(os.environ[PARENT_VARIABLE]))
    faster_imports(_load)
    os.register_at_fork(after_in_child=_in_forked_child)
    if PHASES_VARIABLE in os.environ:
        report_phases(os.environ[PHASES_VARIABLE])
