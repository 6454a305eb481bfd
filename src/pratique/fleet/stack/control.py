"""The control socket: how other commands talk to a running stack's supervisor.

One JSON object a line, one request a connection: {"version": 1, "command": "status" | "stop" | "restart", "service"?}.
The answer is {"version": 1, "ok": true, …} or {"version": 1, "ok": false, "error": {"code", "message", "hint"}}.
After `stop` the connection stays open until the supervisor has ended, so its end of file means that nothing is left.

The socket is reached through its folder's descriptor: a socket's path may have 107 characters, a state folder's more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import msgspec

from pratique.core.errors import CallerError, PratiqueError
from pratique.fleet.errors import SupervisorLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["ControlClient", "ControlServer", "Request"]

_VERSION: Final = 1
_MAX_LINE_BYTES: Final = 1 << 20
_ANSWER_SECONDS: Final = 5.0


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a command asks."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)]
    command: Literal["status", "stop", "restart"]
    service: str = ""


class ControlServer:
    """Answers requests with what `handle` returns, an object to be encoded as JSON. Use as an async context manager."""

    def __init__(self, path: Path, handle: Callable[[Request], dict[str, Any]]) -> None:
        self._path = path
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._waiting: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        with _short(self._path) as short:
            self._server = await asyncio.start_unix_server(self._serve, short, limit=_MAX_LINE_BYTES)
        self._path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None  # noqa: S101 - entered before
        self._server.close()
        for writer in self._waiting:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_stop = False
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                line = await reader.readline()
                answer, is_stop = self._answer(line)
                writer.write(msgspec.json.encode({"version": _VERSION, **answer}) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            is_stop = False
        if is_stop:
            self._waiting.add(writer)
        else:
            writer.close()

    def _answer(self, line: bytes) -> tuple[dict[str, Any], bool]:
        try:
            request = msgspec.json.decode(line, type=Request)
            return {"ok": True, **self._handle(request)}, request.command == "stop"
        except msgspec.MsgspecError as error:
            return _refuse(CallerError(f"The request is malformed: {error}.")), False
        except PratiqueError as error:
            return _refuse(error), False


def _refuse(error: PratiqueError) -> dict[str, Any]:
    return {"ok": False, "error": {"code": error.code, "message": error.message, "hint": error.hint}}


class ControlClient:
    """Asks a supervisor."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, command: str, *, service: str = "") -> dict[str, Any]:
        """Return the answer.

        Raises:
            SupervisorLostError: nobody answers in time, or with something else, or with a refusal.
        """
        reader, writer = await self._connect()
        try:
            return await self._exchange(reader, writer, command, service)
        finally:
            writer.close()

    async def stop(self, *, within_seconds: float) -> None:
        """Have the stack stopped; return when its supervisor has ended.

        Raises:
            SupervisorLostError: it does not answer, or goes on for longer than that.
        """
        reader, writer = await self._connect()
        try:
            await self._exchange(reader, writer, "stop", "")
            async with asyncio.timeout(within_seconds):
                await reader.read()
        except TimeoutError as error:
            raise SupervisorLostError(f"The stack has not stopped within {within_seconds:.0f} s.") from error
        except ConnectionError:
            return
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            with _short(self._path) as short:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await asyncio.open_unix_connection(short, limit=_MAX_LINE_BYTES)
        except (OSError, TimeoutError) as error:
            raise SupervisorLostError(f"The supervisor behind {self._path} does not answer.") from error

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str, service: str
    ) -> dict[str, Any]:
        request = Request(version=_VERSION, command=command, service=service)  # type: ignore[arg-type]  # the server checks
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                writer.write(msgspec.json.encode(request) + b"\n")
                answer = msgspec.json.decode(await reader.readline(), type=dict[str, Any])
        except (OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            raise SupervisorLostError(f"The supervisor behind {self._path} does not answer: {error}.") from error
        if not answer.get("ok"):
            refused = answer.get("error") or {}
            raise SupervisorLostError(str(refused.get("message", answer)), hint=refused.get("hint"))
        return answer


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
