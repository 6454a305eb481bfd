"""The host: `python -m pratique.testkit.host.supervisor`, the parent of every server that a test run starts.

It is a process of its own so that servers outlive no run: it watches a pipe that only pytest holds open, and pytest's
own process, and the kernel tells it of either's end however pytest ended, kill -9 included. Then it kills every
descendant it has and removes its folder. Should it be killed itself, the kernel kills its servers.

With an idle time instead of an owner (servers that are reused between runs) it ends when nobody has been connected for
that long.

Loopback only, a Unix socket in a folder of mode 0700, one JSON line for a request and one for its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from pratique.core import procfs
from pratique.testkit.errors import TestkitError
from pratique.testkit.host.launch import (
    Ensure,
    Failure,
    Launch,
    Ok,
    ProcessLaunch,
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
from pratique.testkit.host.server import ProcessServer, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Host", "main"]

_PR_SET_CHILD_SUBREAPER: Final = 36
_REQUEST_BYTES: Final = 4 * 1024 * 1024
_STOP_SECONDS: Final = 10.0
_NOT_INHERITED: Final = ("AWS_", "PYTEST_")
"""Servers must not find an account to talk to, nor take themselves for tests."""


class Host:
    """The servers of one run, by key. One thread, so that each is started once however many ask."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {name: value for name, value in environment.items() if not name.startswith(_NOT_INHERITED)}
        self._servers: dict[str, Server] = {}
        self._running: dict[str, Running] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def answer(self, request: Request) -> Response:
        """Do what is asked; what goes wrong is an answer too."""
        try:
            match request:
                case Ensure():
                    return await self._ensure(request.key, request.launch)
                case Status():
                    alive = tuple(one for key, one in self._running.items() if self._servers[key].is_alive())
                    return Statuses(servers=alive, pid=os.getpid())
                case Signal() | Stop() | Tail():
                    return await self._to_one(request)
                case _:
                    assert_never(request)
        except TestkitError as error:
            return Failure(message=error.message, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - the request ends here; whoever asked is told
            traceback.print_exc()
            return Failure(message=f"The host failed with {type(error).__name__}: {error}.", hint="This is a bug.")

    async def stop(self) -> None:
        """End every server in its own time, all at once."""
        async with asyncio.timeout(_STOP_SECONDS):
            await asyncio.gather(*(server.stop() for server in self._servers.values()))

    def abandon(self) -> None:
        """End every server at once; nobody is left to wait for."""
        for server in self._servers.values():
            server.abandon()
        procfs.kill_until_gone(lambda entries: procfs.descendants(entries, os.getpid()))

    async def _ensure(self, key: str, launch: Launch) -> Running:
        async with self._locks.setdefault(key, asyncio.Lock()):
            server = self._servers.get(key)
            if server is not None and server.is_alive():
                return self._running[key]
            server = self._servers[key] = self._make(key, launch)
            try:
                self._running[key] = await server.start()
            except BaseException:
                del self._servers[key]
                raise
            return self._running[key]

    def _make(self, key: str, launch: Launch) -> Server:
        if isinstance(launch, ProcessLaunch):
            return ProcessServer(key, launch, folder=self._folder / key, environment=self._environment)
        from pratique.testkit.host.container import ContainerServer

        return ContainerServer(key, launch, folder=self._folder / key)

    async def _to_one(self, request: Signal | Stop | Tail) -> Response:
        server = self._servers.get(request.key)
        if server is None:
            known = ", ".join(self._servers) or "none"
            return Failure(message=f"There is no server '{request.key}'.", hint=f"Servers of this run: {known}.")
        match request:
            case Signal():
                running = await server.act(request.action)
                if running is not None:
                    self._running[request.key] = running
                return running or Ok()
            case Stop():
                await server.stop()
                del self._servers[request.key]
                self._running.pop(request.key, None)
                return Ok()
            case Tail():
                return Tailed(text=server.tail(request.lines))


class _Service:
    """Takes requests from a listening socket, and notices when nobody is left to ask."""

    def __init__(self, host: Host, *, idle_seconds: float | None) -> None:
        self._host = host
        self._idle_seconds = idle_seconds
        self._connections = 0
        self._idle: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """True: in order; False: pytest is gone without a word."""
        self._count(0)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count(1)
        try:
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # it left in the middle, or sent a line beyond the bound
        finally:
            writer.close()
            self._count(-1)

    def end(self, *, in_order: bool) -> None:
        if not self.ended.done():
            self.ended.set_result(in_order)

    async def _answer(self, line: bytes) -> Response:
        try:
            request: Request = msgspec.json.decode(line, type=Request)
        except msgspec.MsgspecError as error:
            return Failure(message=f"The host cannot read this request: {error}.")
        return await self._host.answer(request)

    def _count(self, change: int) -> None:
        self._connections += change
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._idle_seconds is not None and self._connections == 0:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(self._idle_seconds, lambda: self.end(in_order=True))


def _watch_owner(lifeline: int, owner: int, service: _Service) -> None:
    """End with the owner: one byte on the pipe is the word for an end in order, its close without one is not."""
    loop = asyncio.get_running_loop()

    def on_lifeline() -> None:
        loop.remove_reader(lifeline)
        service.end(in_order=bool(os.read(lifeline, 1)))

    loop.add_reader(lifeline, on_lifeline)
    # A child that pytest forked without exec may hold the pipe open beyond pytest's end.
    try:
        pidfd = os.pidfd_open(owner)
    except ProcessLookupError:
        service.end(in_order=False)
        return
    loop.add_reader(pidfd, lambda: service.end(in_order=False))


async def _serve(arguments: argparse.Namespace) -> bool:
    loop = asyncio.get_running_loop()
    host = Host(arguments.folder, os.environ)
    service = _Service(host, idle_seconds=arguments.idle)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: service.end(in_order=True))
    if arguments.lifeline is not None:
        _watch_owner(arguments.lifeline, arguments.owner, service)
    listener = socket.socket(fileno=arguments.listen)
    server = await asyncio.start_unix_server(service.take, sock=listener, limit=_REQUEST_BYTES)
    in_order = await service.ended
    server.close()
    if in_order:
        with contextlib.suppress(TimeoutError):
            await host.stop()
    host.abandon()
    return in_order


def main(words: list[str] | None = None) -> None:
    """Run the host until its owner ends or it has been idle."""
    parser = argparse.ArgumentParser(prog="pratique.testkit.host.supervisor")
    parser.add_argument("--listen", type=int, required=True, help="file descriptor of the listening Unix socket")
    parser.add_argument("--folder", type=Path, required=True, help="its folder, removed at the end")
    parser.add_argument("--lifeline", type=int, help="file descriptor of the pipe that pytest holds open")
    parser.add_argument("--owner", type=int, help="process id of pytest")
    parser.add_argument("--idle", type=float, help="without an owner: end after so many seconds without a connection")
    arguments = parser.parse_args(words)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        asyncio.run(_serve(arguments))
    finally:
        shutil.rmtree(arguments.folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
