"""The entry of the process: build the parts that the settings name, listen, run. Heavy imports come after listening."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import uvloop

from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.inference.artifacts.manifest import verify
from pratique.inference.artifacts.store import SMALL_MODEL, default_model_root, import_small_model
from pratique.inference.engines.interface import Engine
from pratique.inference.listener import listen, serving
from pratique.inference.server import Artifacts, ModelServer
from pratique.inference.settings import InferenceSettings

__all__ = ["build", "run", "serve"]

_LOG = get_logger("server")
_EXIT_FAILED = 1


def run(settings: InferenceSettings, *, announce: Callable[[str], None] = lambda _: None) -> int:
    """Run a model server until it is told to stop; `announce` gets its URL. Return the exit code: 1 where it failed."""
    # Not `uvloop.run`: at its end it waits for threads, and one that loads a model for minutes cannot be cancelled.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    code: int = loop.run_until_complete(serve(settings, announce))
    return code


async def serve(settings: InferenceSettings, announce: Callable[[str], None]) -> int:
    """Listen, then load and serve. SIGTERM and SIGINT drain.

    Raises:
        ListenError: before anything else was begun.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    listener = listen(settings.host, settings.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = build(settings)
    async with serving(server.gate, listener):
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        _LOG.info("listening", url=url, engine=settings.engine)
        announce(url)
        try:
            await server.run(stop)
        except PratiqueError:
            return _EXIT_FAILED
    return 0


def build(settings: InferenceSettings) -> ModelServer:
    """Put the parts together; nothing is begun."""
    if settings.engine == "simulated":
        from pratique.inference.engines.simulated import SimulatedEngine

        engine: Engine = SimulatedEngine(settings.simulated, model="simulated", max_model_len=settings.max_model_len)
        return ModelServer(settings, engine, artifacts=Artifacts(), timings=None)
    from pratique.inference.engines.vllm import VllmEngine

    root = settings.model_root or default_model_root(os.environ)
    folder = settings.model or root / SMALL_MODEL
    artifacts = Artifacts(
        fetch=(lambda progress: import_small_model(root, progress)) if settings.model is None else None,
        verify=lambda progress: verify(folder, progress),
    )
    engine = VllmEngine(settings, folder=folder, model=folder.name)
    return ModelServer(settings, engine, artifacts=artifacts, timings=folder.parent / f".{folder.name}.start.json")
