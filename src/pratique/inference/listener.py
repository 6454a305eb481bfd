"""The listening socket and uvicorn over it. Signals stay with the caller, who drains before it stops listening."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp

from pratique.core.errors import EnvironmentFaultError

__all__ = ["ListenError", "listen", "serving"]

_BACKLOG = 1024
_LAST_WORDS_SECONDS = 1
_CLOSE_SECONDS = 5.0
# Longer than the edge keeps an idle connection, so that it never sends into one that is being closed here.
_KEEP_ALIVE_SECONDS = 120


class ListenError(EnvironmentFaultError):
    """The address cannot be listened on."""

    code = "listen_failed"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Raises:
        ListenError: the port is taken, or there is no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(
            f"Cannot listen on {host}:{port}: {error}.", hint="Name an address of this machine."
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        is_address_wrong = error.errno == errno.EADDRNOTAVAIL
        raise ListenError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            hint="Name an address of this machine with --host."
            if is_address_wrong
            else "Choose another port with --port, or 0 for any free one.",
        ) from error
    listener.setblocking(False)
    return listener


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve HTTP on the socket while the body runs."""
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=_CLOSE_SECONDS)


class _Server(uvicorn.Server):
    """uvicorn's server, with the signals left to us: its own handling ends the process by the signal, not with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
