"""How a server is asked whether it is ready, and whether the one that answers is ours.

A port that we reserved can in theory be taken by a program that insists on its number; then our server fails, and
what answers is somebody else's. So the socket that listens there has to belong to a process of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from pratique.testkit.host.launch import HttpReady, Ready, RedisReady, TcpReady

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["is_ready", "listens"]

_ASK_SECONDS: Final = 2.0
_LISTEN: Final = "0A"
_LINE_BYTES: Final = 4096


async def is_ready(host: str, port: int, ready: Ready) -> bool:
    """Ask once. No answer, or another one than expected, is a no."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_ASK_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, limit=_LINE_BYTES)
            try:
                return await _ask(reader, writer, ready, f"{host}:{port}")
            finally:
                writer.close()
    return False


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ready: Ready, address: str) -> bool:
    match ready:
        case TcpReady():
            return True
        case RedisReady():
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")
        case HttpReady():
            request = f"GET {ready.path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            status = (await reader.readline()).split()
            return len(status) > 1 and int(status[1]) in ready.statuses
        case _:
            assert_never(ready)


def listens(port: int, pids: Iterable[int]) -> bool:
    """Whether the socket that listens on this TCP port belongs to one of these processes."""
    inodes = set(_listening_inodes(port))
    return any(inodes & set(_socket_inodes(pid)) for pid in pids)


def _listening_inodes(port: int) -> Iterable[str]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _socket_inodes(pid: int) -> Iterable[str]:
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)  # noqa: PTH115 - not a path: "socket:[123]"
                if target.startswith("socket:["):
                    yield target[len("socket:[") : -1]
