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
import ctypes
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from pratique.core import procfs
from pratique.testkit.errors import TestkitError
from pratique.testkit.host.launch import (
    BACKLOG,
    MARKER,
    REQUEST_BYTES,
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
_STOP_SECONDS: Final = 10.0
_KILL_SECONDS: Final = 4.0
_ABANDON_SECONDS: Final = 1.6
"""For containers; processes are gone sooner."""
_NOT_INHERITED: Final = ("AWS_", "PYTEST_")
"""Servers must not find an account to talk to, nor take themselves for tests."""


@dataclass(kw_only=True)
class _Slot:
    """A server and what is known of it. The lock is held while it starts, stops, or is acted on."""

    server: Server
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: Running | None = None
    labels: dict[str, None] = field(default_factory=dict)
    starts: int = 0
    failed_at: float = 0.0
    failure: Failure | None = None

    @property
    def is_up(self) -> bool:
        return self.running is not None and self.server.is_alive()

    def note(self, running: Running) -> Running:
        self.starts += 1
        self.running = msgspec.structs.replace(running, starts=self.starts)
        return self.running


class Host:
    """The servers of one run, by key. One thread, so that each is started once however many ask."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        kept = {name: value for name, value in environment.items() if not name.startswith(_NOT_INHERITED)}
        self._environment = {**kept, MARKER: str(folder)}
        self._slots: dict[str, _Slot] = {}
        self.is_ending = False
        """Nothing is started any more."""

    async def answer(self, request: Request) -> Response:
        """Do what is asked; what goes wrong is an answer too."""
        try:
            match request:
                case Ensure():
                    return await self._ensure(request)
                case Status():
                    return self._status()
                case Signal() | Stop() | Tail():
                    return await self._to_one(request)
                case _:
                    assert_never(request)
        except TestkitError as error:
            return _failure_of(error)
        except Exception as error:  # noqa: BLE001 - the request ends here; whoever asked is told
            traceback.print_exc()
            return Failure(message=f"The host failed with {type(error).__name__}: {error}.", hint="This is a bug.")

    async def stop(self) -> None:
        """End every server in its own time, all at once. One that is still starting is left to `abandon`."""
        self.is_ending = True
        ready = [slot.server for slot in self._slots.values() if not slot.lock.locked()]
        for result in await asyncio.gather(*(server.stop() for server in ready), return_exceptions=True):
            if isinstance(result, Exception):
                traceback.print_exception(result)

    def abandon(self) -> None:
        """End every server at once; nobody is left to wait for."""
        self.is_ending = True
        # Beside it, each in a thread: a container engine takes its time, and there are two seconds for everything.
        servers = [slot.server for slot in self._slots.values()]
        removals = [threading.Thread(target=_abandon, args=(server,), daemon=True) for server in servers]
        for removal in removals:
            removal.start()
        procfs.kill_until_gone(lambda entries: procfs.descendants(entries, os.getpid()), within_seconds=_KILL_SECONDS)
        deadline = time.monotonic() + _ABANDON_SECONDS
        for removal in removals:
            removal.join(max(0.0, deadline - time.monotonic()))

    def reap(self) -> None:
        """Take the exit codes of the orphans of servers, which came to this process; servers take their own."""
        entries = [entry for entry in procfs.list_processes() if entry.session != os.getsid(0)]
        servers = {slot.server.pid for slot in self._slots.values() if isinstance(slot.server, ProcessServer)}
        procfs.reap_orphans(entries, spare=servers)

    async def _ensure(self, request: Ensure) -> Response:
        asked = time.monotonic()
        while True:
            if request.key not in self._slots:
                self._slots[request.key] = _Slot(server=self._make(request.key, request.launch))
            slot = self._slots[request.key]
            if request.label:
                slot.labels[request.label] = None
            async with slot.lock:
                if slot.failure is not None and slot.failed_at > asked:
                    return slot.failure  # of the start that this request waited for; a later one tries again
                if self._slots.get(request.key) is not slot:
                    continue  # it was stopped while this request waited: its server is not to come back
                if slot.is_up and slot.running:
                    return slot.running
                if self.is_ending:
                    return Failure(message="The host is ending, it starts nothing any more.")
                return await self._start(request.key, slot)

    async def _start(self, key: str, slot: _Slot) -> Response:
        try:
            return slot.note(await slot.server.start())
        except TestkitError as error:
            slot.failed_at, slot.failure = time.monotonic(), _failure_of(error)
            self._slots.pop(key, None)
            try:
                await slot.server.stop()
            except Exception:  # noqa: BLE001 - for the host's log: the answer is what went wrong first
                traceback.print_exc()
            return slot.failure

    def _make(self, key: str, launch: Launch) -> Server:
        if isinstance(launch, ProcessLaunch):
            return ProcessServer(key, launch, folder=self._folder / key, environment=self._environment)
        from pratique.testkit.host.container import ContainerServer

        return ContainerServer(key, launch, folder=self._folder / key)

    def _status(self) -> Statuses:
        up = tuple(slot.running for slot in self._slots.values() if slot.running and slot.is_up)
        starting = tuple(key for key, slot in self._slots.items() if slot.lock.locked() and not slot.is_up)
        labels = {key: tuple(slot.labels) for key, slot in self._slots.items()}
        return Statuses(servers=up, starting=starting, labels=labels, pid=os.getpid(), is_ending=self.is_ending)

    async def _to_one(self, request: Signal | Stop | Tail) -> Response:
        slot = self._slots.get(request.key)
        if slot is None:
            return self._unknown(request.key)
        if isinstance(request, Tail):
            return Tailed(text=slot.server.tail(request.lines))
        async with slot.lock:
            if self._slots.get(request.key) is not slot:
                return self._unknown(request.key)  # it was stopped while this request waited
            if isinstance(request, Stop):
                await slot.server.stop()
                self._slots.pop(request.key, None)
                return Ok()
            running = await slot.server.act(request.action)
            return Ok() if running is None else slot.note(running)

    def _unknown(self, key: str) -> Failure:
        known = ", ".join(self._slots) or "none"
        return Failure(message=f"There is no server '{key}'.", hint=f"Servers of this run: {known}.")


def _abandon(server: Server) -> None:
    try:
        server.abandon()
    except Exception:  # noqa: BLE001 - the thread ends here, the others go on
        traceback.print_exc()


def _failure_of(error: TestkitError) -> Failure:
    return Failure(message=error.message, hint=error.hint)


class _Service:
    """Takes requests from a listening socket, and notices when nobody is left to ask."""

    def __init__(self, host: Host, *, idle_seconds: float | None) -> None:
        self._host = host
        self._idle_seconds = idle_seconds
        self._connections = 0
        self._idle: asyncio.TimerHandle | None = None
        self.ending = asyncio.Event()
        self.gone = asyncio.Event()
        """Nobody is left to wait for an end in order: pytest is gone, or asked twice."""
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

    def end(self) -> None:
        """End in order; where that is under way already, at once."""
        if self.ending.is_set():
            self.gone.set()
        self._host.is_ending = True  # now: who asks before the loop comes round must not take it for one that stays
        self.ending.set()

    def abandon(self) -> None:
        """End at once."""
        self.gone.set()
        self.ending.set()

    async def _answer(self, line: bytes) -> Response:
        try:
            request: Request = msgspec.json.decode(line, type=Request)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return Failure(message=f"The host cannot read this request: {error}.")
        return await self._host.answer(request)

    def _count(self, change: int) -> None:
        self._connections += change
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._idle_seconds is not None and self._connections == 0:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self.end)


def _watch_owner(lifeline: int, owner: int, service: _Service) -> None:
    """End with the owner: one byte on the pipe is the word for an end in order, its close without one is not."""
    loop = asyncio.get_running_loop()

    def on_lifeline() -> None:
        if os.read(lifeline, 1):
            service.end()  # and stay here: should the owner be killed now, the pipe closes
        else:
            loop.remove_reader(lifeline)
            service.abandon()

    def on_death() -> None:
        loop.remove_reader(pidfd)
        service.abandon()

    loop.add_reader(lifeline, on_lifeline)
    # A child that pytest forked without exec may hold the pipe open beyond pytest's end.
    try:
        pidfd = os.pidfd_open(owner)
    except ProcessLookupError:
        service.abandon()
        return
    loop.add_reader(pidfd, on_death)


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    host = Host(arguments.folder, os.environ)
    service = _Service(host, idle_seconds=arguments.idle)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, service.end)
    loop.add_signal_handler(signal.SIGCHLD, host.reap)
    if arguments.lifeline is not None:
        _watch_owner(arguments.lifeline, arguments.owner, service)
    listener = socket.socket(fileno=arguments.listen)
    server = await asyncio.start_unix_server(service.take, sock=listener, limit=REQUEST_BYTES, backlog=BACKLOG)
    await service.ending.wait()
    server.close()
    await _stop_in_order(host, service.gone)
    host.abandon()


async def _stop_in_order(host: Host, gone: asyncio.Event) -> None:
    ways = [asyncio.ensure_future(host.stop()), asyncio.ensure_future(gone.wait())]
    if not gone.is_set():
        await asyncio.wait(ways, timeout=_STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()


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
