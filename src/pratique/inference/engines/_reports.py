"""What the engine's process tells the model server while it lives: datagrams to a socket in the engine's folder.

One that cannot be sent is dropped: nothing but a progress bar, and the name of a death's cause, depends on it. What
arrives is checked: another process could write to the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pratique.inference.engines._limits import memory_limit_reached

__all__ = ["MAX_REPORT_BYTES", "Died", "Entered", "Message", "Receiver", "Sender"]

MAX_REPORT_BYTES: Final = 4096
_SEND_SECONDS: Final = 1.0


class Entered(msgspec.Struct, frozen=True, tag="entered"):
    """The engine is in a phase of its start."""

    phase: str
    """A value of `EnginePhase`."""
    detail: str
    share: float | None = None


class Died(msgspec.Struct, frozen=True, tag="died"):
    """An exception ends the engine."""

    pid: int
    text: str
    """Its type and message, cut to what a datagram takes."""


Message = Entered | Died


class Sender:
    """The engine's end."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # The server reads at once unless it is very busy: a full queue may hold the engine for a moment, not for long.
        self._socket.settimeout(_SEND_SECONDS)

    def enter(self, phase: str, detail: str, share: float | None = None) -> None:
        """Say which phase of the start this is."""
        self._send(Entered(phase=phase, detail=detail, share=share))

    def die(self, error: BaseException) -> None:
        """Say what ends the engine, and whether it had come to its memory limit."""
        text = f"{type(error).__name__}: {error}"[: MAX_REPORT_BYTES // 8]
        self._send(Died(pid=os.getpid(), text=" ".join(filter(None, (text, memory_limit_reached())))))

    def close(self) -> None:
        """Say nothing any more."""
        self._socket.close()

    def _send(self, message: Message) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(msgspec.json.encode(message), self._path)


class Receiver:
    """The server's end; reads from its making until it is closed."""

    def __init__(self, path: Path, hear: Callable[[Message], None]) -> None:
        self._hear = hear
        self._decoder = msgspec.json.Decoder(Message)
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(str(path))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._read)

    def read_all(self) -> None:
        """Take what has arrived now, without waiting for the loop's next turn."""
        while self._read():
            pass

    def close(self) -> None:
        """Read what is left, and stop."""
        if self._socket.fileno() >= 0:
            self.read_all()
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _read(self) -> bool:
        try:
            raw = self._socket.recv(MAX_REPORT_BYTES)
        except (BlockingIOError, OSError):
            return False
        with contextlib.suppress(msgspec.DecodeError):
            self._hear(self._decoder.decode(raw))
        return True
