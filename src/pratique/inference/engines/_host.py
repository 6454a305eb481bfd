"""What the engines of one process share: the environment that vLLM reads, the fork server, and their turn to load."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator
from multiprocessing import forkserver
from typing import Final

from pratique.inference.engines._preload import PARENT_VARIABLE
from pratique.inference.engines._run_folder import environment

__all__ = ["ensure_fork_server", "turn_to_load"]

_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # A dead engine is built anew: vLLM's handlers must not tell the server to exit.
    "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # vLLM compiles a helper of its sampler at the first request that asks for logprobs: half a minute in which nobody
    # gets a token. All else runs without the compiler anyway (--enforce-eager).
    "TORCH_COMPILE_DISABLE": "1",
}
_TURN = threading.Lock()
_TURN_SECONDS: Final = 0.02


def ensure_fork_server(*, threads: int) -> None:
    """Have a fork server that imports vLLM: the first time, and where it has died.

    The kernel ends it with the thread that begins it: call this in the thread that the process lives in.
    """
    os.environ.update(_ENVIRONMENT, OMP_NUM_THREADS=str(threads))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    multiprocessing.set_forkserver_preload(["pratique.inference.engines._preload"])
    with environment({PARENT_VARIABLE: str(os.getpid())}):
        forkserver.ensure_running()


@contextlib.asynccontextmanager
async def turn_to_load() -> AsyncIterator[None]:
    """One engine of a process loads at a time: they share the environment and the registry of metrics.

    Not an asyncio.Lock, which belongs to one event loop; a load takes seconds, so a look every now and then is enough.
    """
    while not _TURN.acquire(blocking=False):  # noqa: ASYNC110 - see above
        await asyncio.sleep(_TURN_SECONDS)
    try:
        yield
    finally:
        _TURN.release()
