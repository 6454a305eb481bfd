"""What a test process says to the host. Blocking, from any thread; one connection for one request."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from pratique.testkit.errors import HostGoneError, ServiceStartError, TestkitUsageError
from pratique.testkit.host.launch import (
    REQUEST_BYTES,
    Action,
    Ensure,
    Failure,
    Launch,
    Ok,
    Request,
    Response,
    Running,
    Signal,
    Status,
    Statuses,
    Stop,
    Tail,
    Tailed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["HostClient", "short_path"]

_ASK_SECONDS: Final = 30.0
_ATTEMPTS: Final = 3
_ACT_SECONDS: Final = 120.0
_AGAIN_SECONDS: Final = 0.01
_PATH_BYTES: Final = 107
_SPARE_SECONDS: Final = 15.0
"""What the host may take beside the start itself: attempts, the end of a failed server."""

R = TypeVar("R")


class HostClient:
    """The host at one socket. `prepare` is called before each connection; it sees to it that there is a host."""

    def __init__(self, address: Path, *, prepare: Callable[[], None] | None = None) -> None:
        self.address = address
        self._prepare = prepare

    def ensure(self, key: str, launch: Launch, *, label: str = "") -> Running:
        """Return the server of that key, started if it does not run.

        Raises:
            ServiceStartError: it did not get ready; the message ends with its log.
            HostGoneError: the host does not answer.
        """
        ensure = Ensure(key=key, launch=launch, label=label)
        return self._ask(ensure, Running, seconds=_start_seconds(launch.start_seconds))

    def begin(self, key: str, launch: Launch, *, label: str = "") -> None:
        """Ask for a server and do not wait for it. What goes wrong goes wrong again, and is told, where one waits."""
        self._send(Ensure(key=key, launch=launch, label=label), seconds=_ASK_SECONDS).close()

    def signal(self, key: str, action: Action, *, start_seconds: float = 0.0) -> Running | None:
        """Pause, resume, kill or restart a server; return it as it is after a restart.

        `start_seconds` is how long its launch lets a start take: a restart is waited for as a start is.
        """
        seconds = max(_ACT_SECONDS, _start_seconds(start_seconds))
        answer = self._ask(Signal(key=key, action=action), (Running, Ok), seconds=seconds)
        return answer if isinstance(answer, Running) else None

    def stop(self, key: str) -> None:
        """End a server."""
        self._ask(Stop(key=key), Ok)

    def status(self) -> Statuses:
        """Return every server that runs."""
        return self._ask(Status(), Statuses)

    def tail(self, key: str, lines: int = 20) -> str:
        """Return the end of a server's log."""
        return self._ask(Tail(key=key, lines=lines), Tailed).text

    def lease(self) -> socket.socket:
        """Return an open connection; a host that is reused between runs stays while there is one."""
        return self._connect(_ASK_SECONDS)

    def _ask(self, request: Request, expected: type[R] | tuple[type[R], ...], *, seconds: float = _ASK_SECONDS) -> R:
        return _receive(self._send(request, seconds=seconds), request, expected)

    def _send(self, request: Request, *, seconds: float) -> socket.socket:
        line = msgspec.json.encode(request) + b"\n"
        if len(line) > REQUEST_BYTES:
            raise TestkitUsageError(
                f"This {type(request).__name__} takes {len(line)} bytes; the host reads at most {REQUEST_BYTES}.",
                hint="Give large files to a server by their paths, not by their texts.",
            )
        connection = self._connect(seconds)
        try:
            connection.sendall(line)
        except OSError as error:
            connection.close()
            raise _gone(str(error)) from error
        return connection

    def _connect(self, seconds: float) -> socket.socket:
        if self._prepare is not None:
            self._prepare()
        deadline = time.monotonic() + min(seconds, _ASK_SECONDS)
        while True:
            try:
                return self._connect_once(seconds)
            except OSError as error:
                # More connections wait for the host than its socket holds.
                if not isinstance(error, BlockingIOError) or time.monotonic() > deadline:
                    raise _gone(str(error)) from error
            time.sleep(_AGAIN_SECONDS)

    def _connect_once(self, seconds: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        try:
            with short_path(self.address) as path:
                connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection


def _start_seconds(once: float) -> float:
    return _ATTEMPTS * once + _SPARE_SECONDS


@contextlib.contextmanager
def short_path(address: Path) -> Iterator[str]:
    """Yield a name of a socket that fits into the 107 bytes which a Unix socket's address may have."""
    if len(os.fsencode(address)) <= _PATH_BYTES:
        yield str(address)
        return
    folder = os.open(address.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{address.name}"
    finally:
        os.close(folder)


def _receive(connection: socket.socket, request: Request, expected: type[R] | tuple[type[R], ...]) -> R:
    try:
        with connection, connection.makefile("rb") as answers:
            line = answers.readline()
    except TimeoutError as error:
        raise _gone(f"no answer to {type(request).__name__} within {connection.gettimeout():.0f} s") from error
    except OSError as error:
        raise _gone(str(error)) from error
    if not line.endswith(b"\n"):
        raise _gone("it closed the connection")
    answer: Response = msgspec.json.decode(line, type=Response)
    if isinstance(answer, Failure):
        raise ServiceStartError(answer.message, hint=answer.hint)
    if not isinstance(answer, expected):
        raise HostGoneError(f"The host answered {type(answer).__name__} to {type(request).__name__}.")
    return answer


def _gone(why: str) -> HostGoneError:
    return HostGoneError(
        f"The host of this run's servers does not answer: {why}.",
        hint="It ends with pytest. Was it killed, or has the run ended? Servers that it had are gone with it.",
    )
