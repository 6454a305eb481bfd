"""How a service is asked whether it is ready. Each question has a deadline; no answer is an answer, not an error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import msgspec

__all__ = ["Health", "HttpProbe", "ModelStatus", "ModelStatusProbe", "Probe", "RedisProbe"]


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a model server says of itself on /status. Unknown fields belong to a later version of it."""

    state: str
    model: str = ""
    engine: str = ""
    detail: str = ""
    progress: float | None = None
    eta_seconds: float | None = None
    since_seconds: float = 0.0
    timings: dict[str, float] = {}
    warmup: dict[str, list[str]] = {}
    error: dict[str, str | None] | None = None
    memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Health:
    """One answer."""

    ready: bool
    detail: str = ""
    progress: float | None = None
    eta_seconds: float | None = None
    model: ModelStatus | None = None


class Probe(Protocol):
    """Asks one service."""

    async def ask(self) -> Health: ...


_NOT_LISTENING = Health(ready=False, detail="starting the process")


class HttpProbe:
    """Ready is a 200."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, timeout_seconds: float = 2.0) -> None:
        self._session = session
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def ask(self) -> Health:
        try:
            async with self._session.get(self._url, timeout=self._timeout) as response:
                if response.status == 200:  # noqa: PLR2004 - HTTP's own number
                    return Health(ready=True)
                return Health(ready=False, detail=f"listens, not ready (status {response.status})")
        except aiohttp.ClientConnectorError:
            return _NOT_LISTENING
        except (aiohttp.ClientError, TimeoutError):
            return Health(ready=False, detail="does not answer")


class ModelStatusProbe:
    """Ready is the state `traffic_ready`; progress and detail are the model server's own words."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, timeout_seconds: float = 2.0) -> None:
        self._session = session
        self._url = f"{url}/status"
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def ask(self) -> Health:
        try:
            async with self._session.get(self._url, timeout=self._timeout) as response:
                status = msgspec.json.decode(await response.read(), type=ModelStatus)
        except aiohttp.ClientConnectorError:
            return _NOT_LISTENING
        except (aiohttp.ClientError, TimeoutError):
            return Health(ready=False, detail="does not answer")
        except msgspec.MsgspecError as error:
            return Health(ready=False, detail=f"answers something else than its status: {error}")
        return Health(
            ready=status.state == "traffic_ready",
            detail=_words(status),
            progress=status.progress,
            eta_seconds=status.eta_seconds,
            model=status,
        )


def _words(status: ModelStatus) -> str:
    if status.error:
        return status.error.get("message") or status.detail or status.state
    return status.detail or status.state.replace("_", " ")


class RedisProbe:
    """Ready is a PONG to an authenticated PING."""

    def __init__(self, host: str, port: int, password: str, *, timeout_seconds: float = 1.0) -> None:
        self._address = (host, port)
        self._greeting = f"AUTH {password}\r\nPING\r\n".encode()
        self._timeout_seconds = timeout_seconds

    async def ask(self) -> Health:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    writer.write(self._greeting)
                    answers = [await reader.readline(), await reader.readline()]
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return _NOT_LISTENING
        if answers == [b"+OK\r\n", b"+PONG\r\n"]:
            return Health(ready=True)
        return Health(ready=False, detail=b" ".join(answers).decode("ascii", "replace").strip())
