"""Ports that nobody else gets: free when they are asked for, and still free when the server that they are for binds.

A socket that is bound to the port and does not listen keeps it. The kernel gives such a port to nobody, neither to a
server that asks for any nor to an outgoing connection, and connecting to it is refused at once. A server that sets
SO_REUSEADDR, as servers on Linux do, can bind and listen on it all the same, and again after a restart.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LOOPBACK", "reserve_port", "reserved_port"]

LOOPBACK: Final = "127.0.0.1"


def reserve_port() -> socket.socket:
    """Return a socket that keeps a free loopback port until it is closed; `getsockname()[1]` is its number."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((LOOPBACK, 0))
    return holder


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Keep a free loopback port for a server that the caller starts, as long as the block lasts."""
    with contextlib.closing(reserve_port()) as holder:
        port: int = holder.getsockname()[1]
        yield port
