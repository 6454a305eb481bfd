"""What the two ways of getting events have in common.

A connection serves one reply: it is opened with the frame that asks for it and read until the reply ends. Neither
transport retries, counts or remembers anything; `_stream` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pratique.client._wire import Frame, ServerEvent

__all__ = ["Connection", "Transport"]


class Connection(Protocol):
    """Events of one reply."""

    async def receive(self) -> ServerEvent | None:
        """Return the next event, None for one of an unknown type.

        Raises:
            LinkLostError: the connection is gone.
            ClientError: the server refused.
        """
        ...

    async def close(self) -> None: ...


class Transport(Protocol):
    """A way to open connections."""

    async def open(self, frame: Frame) -> Connection:
        """Connect and ask.

        Raises:
            LinkLostError: no connection came about.
            ClientError: the server refused.
        """
        ...
