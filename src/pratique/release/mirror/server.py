"""Serves the mirror: the listening socket, uvicorn, and the thread that hashes the store again and again."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from pratique.core.errors import EnvironmentFaultError
from pratique.core.events import get_logger
from pratique.release.mirror.app import make_app
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.mirror.shelf import Shelf

__all__ = ["MirrorListenError", "serve"]

_logger = get_logger("mirror")
_GRACE_SECONDS: Final = 10
_MAX_CONNECTIONS: Final = 512


class MirrorListenError(EnvironmentFaultError):
    """The address cannot be listened on."""

    code = "mirror_listen_failed"


def serve(settings: MirrorSettings, *, announce: Callable[[str], None]) -> None:
    """Serve until told to stop (SIGTERM, or Ctrl-C); `announce` gets the index's address.

    Raises:
        ApprovedFileError, MirrorStoreError: there is nothing to begin with.
        MirrorListenError: the address is taken.
    """
    shelf = Shelf(settings)
    shelf.catalogue()
    with contextlib.closing(_bind(settings)) as listener, _rechecking(shelf, settings.recheck_seconds):
        host, port = listener.getsockname()[:2]
        config = uvicorn.Config(
            make_app(shelf),
            http="h11",  # it bounds a request's head, which httptools does not, and is there in every installation
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
        )
        _logger.info("mirror_listening", host=host, port=port)
        announce(f"http://{f'[{host}]' if ':' in host else host}:{port}/simple/")
        uvicorn.Server(config).run(sockets=[listener])


def _bind(settings: MirrorSettings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port), backlog=256)
    except OSError as error:
        raise MirrorListenError(
            f"cannot listen on {settings.host}:{settings.port}: {error}", hint="Is it taken? --port 0 takes any."
        ) from error


@contextlib.contextmanager
def _rechecking(shelf: Shelf, seconds: float) -> Iterator[None]:
    """Hash the store at once and then every so often, in a thread of its own."""
    stop = threading.Event()

    def work() -> None:
        while True:
            shelf.recheck_safely()
            if stop.wait(seconds):
                return

    thread = threading.Thread(target=work, name="mirror-recheck", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_GRACE_SECONDS)
