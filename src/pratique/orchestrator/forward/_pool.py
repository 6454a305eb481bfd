"""Connections to one origin, kept for reuse: the one used last goes first, and none rests for longer than it may."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Final
from urllib.parse import urlsplit

from pratique.orchestrator.forward._connection import Connection
from pratique.orchestrator.forward.interface import ForwardUnavailableError, ShedError

__all__ = ["Pool"]

_RETRY_AFTER_SECONDS: Final = 1.0


class Pool:
    """Opens and keeps connections; all methods belong to one event loop."""

    def __init__(
        self, url: str, *, connect_timeout_seconds: float, rest_seconds: float = 4.0, max_connections: int = 4096
    ) -> None:
        """Make a pool for the origin of `url`.

        Args:
            url: http://… or https://….
            connect_timeout_seconds: for the connection, its name and its TLS together.
            rest_seconds: how long one may rest; below the 5 s after which uvicorn closes its side by default.
            max_connections: those in use; a request beyond them is shed, not queued.
        """
        parts = urlsplit(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._connect_timeout_seconds = connect_timeout_seconds
        self._rest_seconds = rest_seconds
        self._max_connections = max_connections
        self._resting: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        """Return the time by the loop's clock."""
        if self._loop is None:
            # Kept: to find it, asyncio asks the kernel for this process each time.
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    async def acquire(self, *, is_fresh: bool = False) -> Connection:
        """Return a connection, a new one where none rests or `is_fresh`.

        Raises:
            ForwardUnavailableError, ShedError.
        """
        if len(self._busy) >= self._max_connections:
            raise ShedError(
                "All connections to the model servers are in use.", retry_after_seconds=_RETRY_AFTER_SECONDS
            )
        connection = None if is_fresh else self._rested()
        if connection is None:
            connection = await self._connect()
        self._busy.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take it back: kept where it may be used again, else cut."""
        self._busy.discard(connection)
        if not connection.is_reusable:
            connection.abort()
            return
        connection.rest()
        self._resting.append(connection)

    def close(self) -> None:
        """Cut all of them, requests in flight included."""
        for connection in (*self._resting, *self._busy):
            connection.abort()
        self._resting.clear()

    def _rested(self) -> Connection | None:
        while self._resting and self._resting[0].idle_seconds > self._rest_seconds:
            self._resting.popleft().abort()
        while self._resting:
            connection = self._resting.pop()
            if connection.is_reusable:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    Connection, self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise ForwardUnavailableError(
                f"No model server could be reached: {str(error) or type(error).__name__}."
            ) from error
        return connection
