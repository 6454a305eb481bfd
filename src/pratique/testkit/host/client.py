"""What a test process says to the host. Blocking, from any thread; one connection for one request."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from pratique.testkit.errors import HostGoneError, ServiceStartError, TestkitError
from pratique.testkit.host.launch import (
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
    from pathlib import Path

__all__ = ["HostClient"]

_ASK_SECONDS: Final = 30.0
_SPARE_SECONDS: Final = 15.0
"""What the host may take beside the start itself: attempts, the end of a failed server."""

R = TypeVar("R")


class HostClient:
    """The host at one socket."""

    def __init__(self, address: Path) -> None:
        self.address = address

    def ensure(self, key: str, launch: Launch) -> Running:
        """Return the server of that key, started if it does not run.

        Raises:
            ServiceStartError: it did not get ready; the message ends with its log.
            HostGoneError: the host does not answer.
        """
        seconds = 3 * launch.start_seconds + _SPARE_SECONDS
        return self._ask(Ensure(key=key, launch=launch), Running, seconds=seconds)

    def signal(self, key: str, action: Action) -> Running | None:
        """Pause, resume, kill or restart a server; return it as it is after a restart."""
        answer = self._ask(Signal(key=key, action=action), (Running, Ok), seconds=3 * _ASK_SECONDS)
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
        try:
            with self._connect(seconds) as connection, connection.makefile("rb") as answers:
                connection.sendall(msgspec.json.encode(request) + b"\n")
                line = answers.readline()
        except OSError as error:
            raise self._gone(str(error)) from error
        if not line:
            raise self._gone("it closed the connection")
        answer: Response = msgspec.json.decode(line, type=Response)
        if isinstance(answer, Failure):
            raise ServiceStartError(answer.message, hint=answer.hint)
        if not isinstance(answer, expected):
            raise TestkitError(f"The host answered {type(answer).__name__} to {type(request).__name__}.")
        return answer

    def _connect(self, seconds: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        try:
            connection.connect(str(self.address))
        except OSError as error:
            connection.close()
            raise self._gone(str(error)) from error
        return connection

    def _gone(self, why: str) -> HostGoneError:
        return HostGoneError(
            f"The host of this run's servers does not answer: {why}.",
            hint="It ends with pytest. Was it killed, or has the run ended? Servers that it had are gone with it.",
        )
