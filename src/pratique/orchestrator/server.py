"""Serves one replica: the listening socket, uvicorn, signals, the drain. Returns when it has stopped in order.

SIGTERM (or Ctrl-C) drains: not ready at once, sockets sent elsewhere, replies end or are handed over; a second one ends
the drain. Nothing here survives the process; everything that matters is in the store and the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
import uvloop

from pratique.core.errors import EnvironmentFaultError
from pratique.core.events import get_logger
from pratique.orchestrator.app import running
from pratique.orchestrator.protocol.parse import MAX_FRAME_BYTES
from pratique.orchestrator.protocols import HttpProtocol, WebSocketProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from starlette.types import ASGIApp

    from pratique.orchestrator.settings import OrchestratorSettings

__all__ = ["ListenError", "bind", "listening", "serve"]

_logger = get_logger("server")
_BACKLOG = 2048
# A client that acknowledges nothing for so long is gone, whatever still waits for it in the kernel.
_UNACKNOWLEDGED_SECONDS = 30
_LAST_WORDS_SECONDS = 5
_OBJECTS_BETWEEN_COLLECTIONS = 20_000


class ListenError(EnvironmentFaultError):
    """The address cannot be listened on."""

    code = "listen_failed"


def serve(settings: OrchestratorSettings, *, announce: Callable[[str], None]) -> None:
    """Serve until told to stop; `announce` gets the base URL once connections are taken.

    Raises:
        ListenError, and what `app.running` raises.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, announce))


@contextlib.asynccontextmanager
async def listening(application: ASGIApp, listener: socket.socket) -> AsyncIterator[str]:
    """Serve an application for as long as the body runs; yields the base URL once connections are taken."""
    server = _Server(_config(application))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await _started(server, serving)
        yield _url_of(listener)
    finally:
        server.stop()
        await serving


async def _serve(settings: OrchestratorSettings, announce: Callable[[str], None]) -> None:
    # Bound first: a port that is taken must be said so before anything else is opened.
    with contextlib.closing(bind(settings.host, settings.port)) as listener:
        async with running(settings) as replica:
            stopping = asyncio.Event()
            with _on_signals(stopping.set):
                async with listening(replica.application, listener) as url:
                    _tune_garbage_collection()
                    _logger.info("listening", url=url, replica=settings.replica)
                    announce(url)
                    await stopping.wait()
                    await _drain_unless_hurried(replica.drain(), stopping)
    _logger.info("stopped")


def _tune_garbage_collection() -> None:
    """Leave alone what lives as long as the process, and look at what is new less often than every 700 objects.

    A request makes some hundred objects and hardly a cycle: by default the collector takes about 15 % of the CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 50)


class _Server(uvicorn.Server):
    """uvicorn's server, with signals and stopping left to us: its own handling ends the process by the signal."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Tick once a second (the Date header), and end at once when told to."""
        counter = 0
        while not await self.on_tick(counter):
            counter += 10
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(application: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        loop="none",
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
    )


async def _started(server: uvicorn.Server, serving: asyncio.Future[None]) -> None:
    while not server.started:
        if serving.done():
            serving.result()
            raise ListenError("The server ended before it took connections.")
        await asyncio.sleep(0.005)


async def _drain_unless_hurried(draining: Coroutine[None, None, None], stopping: asyncio.Event) -> None:
    stopping.clear()
    either: set[asyncio.Future[Any]] = {asyncio.ensure_future(draining), asyncio.ensure_future(stopping.wait())}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in either:
            task.cancel()
        await asyncio.gather(*either, return_exceptions=True)


@contextlib.contextmanager
def _on_signals(callback: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 is any free one.

    Raises:
        ListenError: the address cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _refused(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by every connection: a token must not wait 40 ms for the acknowledgement of the one before it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_SECONDS * 1000)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def _refused(host: str, port: int, error: OSError) -> ListenError:
    return ListenError(
        f"Cannot listen on {host}:{port}: {error.strerror or error}.",
        hint="Choose another port with --port, or 0 for any free one.",
    )


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
