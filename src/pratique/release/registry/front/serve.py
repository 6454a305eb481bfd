"""Runs the front: checked settings, socket, state, uvicorn, signals. Returns when it has stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
import uvicorn

from pratique.core.errors import CallerError
from pratique.core.events import get_logger
from pratique.release.registry.errors import ListenError
from pratique.release.registry.front.app import Front
from pratique.release.registry.front.locks import TagLocks
from pratique.release.registry.front.state import FrontState
from pratique.release.registry.front.upstream import Upstream
from pratique.release.registry.front.writing import Writer
from pratique.release.registry.names import is_loopback

if TYPE_CHECKING:
    from pratique.release.registry.settings import FrontSettings

__all__ = ["FrontSettingsError", "require_sound", "running", "serve"]

_logger = get_logger("registry_front")
_LEASES: Final = 3
"""A lease lasts as many times as long as one answer may take: look, write, and once more."""
_LAST_WORDS_SECONDS: Final = 10


class FrontSettingsError(CallerError):
    """The front cannot be run with these settings."""

    code = "front_settings"


def require_sound(settings: FrontSettings) -> Path:
    """Return the folder for the state.

    Raises:
        FrontSettingsError: something is missing, or would be open to others.
    """
    parts = urlsplit(settings.upstream)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.netloc
        or f"{parts.scheme}://{parts.netloc}" != settings.upstream
    ):
        raise FrontSettingsError(
            f"expected the registry behind it as http://host:port or https://host, got '{settings.upstream[:200]}'",
            hint="Say --upstream URL, without a path.",
        )
    for pattern in settings.mutable_tags:
        try:
            re.compile(pattern)
        except re.error as error:
            raise FrontSettingsError(
                f"expected regular expressions in mutable_tags, got '{pattern}': {error}"
            ) from error
    if settings.state_dir is None:
        raise FrontSettingsError("no folder for the state is named", hint="Say --state-dir FOLDER.")
    if not is_loopback(f"[{settings.host}]" if ":" in settings.host else settings.host) and not settings.allow_remote:
        raise FrontSettingsError(
            f"the front would listen on {settings.host}, where others reach it",
            hint="It asks for no login that the registry does not ask for. Say --allow-remote where that is meant.",
        )
    return settings.state_dir


def serve(settings: FrontSettings, *, announce: Callable[[str], None]) -> None:
    """Serve until told to stop; `announce` gets the URL once connections are taken.

    Raises:
        FrontSettingsError, ListenError, StateError: it cannot start.
    """
    asyncio.run(_serve(settings, announce))


@contextlib.asynccontextmanager
async def running(settings: FrontSettings) -> AsyncIterator[Front]:
    """Make the application for as long as the body runs."""
    state = FrontState(require_sound(settings), settings.upstream, lease_seconds=_LEASES * settings.upstream_seconds)
    with contextlib.closing(state):
        connector = aiohttp.TCPConnector(limit=settings.max_requests)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            upstream = Upstream(
                session, settings.upstream, seconds=settings.upstream_seconds, idle_seconds=settings.idle_seconds
            )
            locks = TagLocks(state, wait_seconds=settings.lock_seconds)
            writer = Writer(
                upstream, locks, mutable_tags=settings.mutable_tags, upstream_seconds=settings.upstream_seconds
            )
            yield Front(settings, upstream, writer)


async def _serve(settings: FrontSettings, announce: Callable[[str], None]) -> None:
    require_sound(settings)
    with contextlib.closing(_bind(settings.host, settings.port)) as listener:
        async with running(settings) as front:
            server = _Server(_config(front))
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, server.stop)
            host, port = listener.getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            server.announce = lambda: announce(url)
            _logger.info("listening", url=url, upstream=settings.upstream)
            await server.serve(sockets=[listener])
    _logger.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn's server, with the signals left to us: its own handling ends the process by the signal, not with 0."""

    announce: Callable[[], None] = staticmethod(lambda: None)

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(front: Front) -> uvicorn.Config:
    return uvicorn.Config(
        front,
        loop="none",
        http="h11",  # it bounds a request's head, which httptools does not, and is there in every installation
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=_LAST_WORDS_SECONDS,
    )


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host}:{port}: {error}", hint="Name an address of this machine."
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="Choose another port with --port, or 0 for any free one.",
        ) from error
    return listener
