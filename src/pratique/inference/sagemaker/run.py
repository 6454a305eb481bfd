"""The shim as a process: listen, say loudly what it does not check, serve, drain."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from collections.abc import Callable

import aiohttp
import uvloop

from pratique.core.errors import RefusedError
from pratique.core.events import get_logger
from pratique.inference.listener import listen, serving
from pratique.inference.sagemaker.endpoints import Endpoints, parse_endpoints
from pratique.inference.sagemaker.settings import SageMakerSettings
from pratique.inference.sagemaker.shim import SageMakerShim

__all__ = ["RemoteRefusedError", "open_session", "run", "serve", "verify_address"]

_LOG = get_logger("sagemaker")


class RemoteRefusedError(RefusedError):
    """The shim would be reachable from other machines, where nobody's signature is checked."""

    code = "remote_refused"


def run(settings: SageMakerSettings, *, announce: Callable[[str], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the URL.

    Raises:
        InvalidEndpointError, RemoteRefusedError, ListenError: before anything else was begun.
    """
    uvloop.run(serve(settings, announce))


async def serve(settings: SageMakerSettings, announce: Callable[[str], None]) -> None:
    """Serve in this event loop, as `run` does."""
    endpoints = parse_endpoints(settings.endpoints)
    verify_address(settings)
    listener = listen(settings.host, settings.port)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_session() as session:
        shim = SageMakerShim(endpoints, settings, session=session)
        async with serving(shim, listener):
            url = "http://{}:{}".format(*listener.getsockname()[:2])
            _say(endpoints, url)
            announce(url)
            await stop.wait()
            await shim.drain(settings.drain_seconds)


def open_session() -> aiohttp.ClientSession:
    """Return the client side: what comes is passed on as it is, one connection for each call.

    A connection that is kept may be closed by the model server just when it is used again, and a POST cannot be
    repeated then; on the same machine a new one costs a fraction of a millisecond.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True), auto_decompress=False, trust_env=False
    )


def verify_address(settings: SageMakerSettings) -> None:
    """Refuse an address that other machines may reach, unless that was allowed.

    Raises:
        RemoteRefusedError: it is neither of this machine alone nor allowed.
    """
    if settings.allow_remote or settings.host == "localhost":
        return
    try:
        is_loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise RemoteRefusedError(
            f"The shim does not check signatures, and would listen on {settings.host}, which others may reach.",
            hint="Leave out --host, or give --allow-remote where the network lets in only whom you trust.",
        )


def _say(endpoints: Endpoints, url: str) -> None:
    _LOG.warning("signatures_not_checked", url=url, meaning="Whoever reaches this address may invoke every endpoint.")
    for variant in endpoints.variants:
        _LOG.info(
            "endpoint", endpoint=variant.endpoint, variant=variant.name, weight=variant.weight, model_server=variant.url
        )
