"""The bodies of one replica's requests: each bounded in bytes, those of one principal in number, all in bytes together.

They are read before a request's limits can be counted, since what it asks for stands in them. So a body that takes more
than one read counts among its principal's connections until it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.orchestrator.api.openai.vigil import ClientLeftError
from pratique.orchestrator.api.requests import verify_declared_size
from pratique.orchestrator.protocol.errors import FrameTooLargeError
from pratique.orchestrator.sessions.sessions import OverloadedError

if TYPE_CHECKING:
    from starlette.types import Receive

    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.access.limits.pace import Connections
    from pratique.orchestrator.api.openai.settings import OpenAiSettings

__all__ = ["Bodies"]


class Bodies:
    """Reads them, and counts what is held of them until `release`."""

    def __init__(self, settings: OpenAiSettings, connections: Connections) -> None:
        self._settings = settings
        self._connections = connections
        self._num_held = 0

    async def read(self, receive: Receive, principal: Principal, *, declared: str) -> bytes:
        """Return a request's body; it is held until it is released. The deadline is the caller's.

        Args:
            receive: of the request.
            principal: who sends it.
            declared: its Content-Length, "" where there is none.

        Raises:
            FrameTooLargeError: it has more than `max_body_bytes`; no more than that was read.
            LimitExceededError: the principal has as many connections as it may.
            OverloadedError: this replica holds as many bytes of bodies as it may.
            ClientLeftError: before it was there.
        """
        verify_declared_size(declared, max_bytes=self._settings.max_body_bytes)
        body = bytearray()
        try:
            if await self._read_next(receive, body):
                with self._connections.one(principal):
                    while await self._read_next(receive, body):
                        pass
        except BaseException:
            self.release(len(body))
            raise
        return bytes(body)

    def release(self, num_bytes: int) -> None:
        """No longer hold so many."""
        self._num_held -= num_bytes

    async def _read_next(self, receive: Receive, body: bytearray) -> bool:
        """Append what comes next; return whether there is more."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("The client left before its body was there.")
        chunk = message.get("body", b"")
        body += chunk
        self._num_held += len(chunk)
        if len(body) > self._settings.max_body_bytes:
            raise FrameTooLargeError(f"A body has at most {self._settings.max_body_bytes} bytes here.")
        if self._num_held > self._settings.max_held_bytes:
            raise OverloadedError("This replica holds as many bodies as it may.", hint="Try again in a moment.")
        return bool(message.get("more_body", False))
