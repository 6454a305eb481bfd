"""Carries bytes between clients and one target, under faults that can change at any time. Runs in one event loop.

A connection is a `_Link` of two `_Pipe`s; a pipe reads, holds what is under way, and delivers. Invariants: what is
under way is bounded, so that a slow reader slows its writer as it would without a proxy; end of stream and reset pass
through as what they are; a connection that lost bytes in a blackhole never goes on with a hole in it: it is reset when
the blackhole ends. The port is kept for the whole life, also while it refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import socket
import struct
import termios
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pratique.testkit.choreography.shaping import (
    Direction,
    Faults,
    Shape,
    arrival,
    buffer_bytes,
    chunk_bytes,
    delay_seconds,
    sending_seconds,
)
from pratique.testkit.ports import LOOPBACK, reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

__all__ = ["Relay", "Tally"]

_BACKLOG: Final = 512
_CONNECT_SECONDS: Final = 10.0
_DRAIN_SECONDS: Final = 5.0
_DRAIN_EVERY_SECONDS: Final = 0.001
_ACCEPT_AGAIN_SECONDS: Final = 0.05
_CREDIT_SECONDS: Final = 0.1
"""A link that woke late makes up for at most this much, so that its rate is what was asked for."""
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class Tally(msgspec.Struct, kw_only=True):
    """What a proxy has seen."""

    connections: int = 0
    """Accepted, ever."""
    open: int = 0
    unreachable: int = 0
    """Connections that were reset because the target could not be reached."""
    resets: int = 0
    """Connections that ended with a reset, ordered or passed on."""
    bytes_up: int = 0
    """Delivered to the target."""
    bytes_down: int = 0
    """Delivered to clients."""
    bytes_lost: int = 0
    """Swallowed by a blackhole."""


class Relay:
    """One port that leads to one target. All methods run in its loop's thread."""

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...], source: Random) -> None:
        self.family = family
        self.address = address
        self.source = source
        self.faults = Faults()
        self.changed_at = 0.0
        self.tally = Tally()
        self._changed = asyncio.Event()
        self._links: set[_Link] = set()
        self._holder = reserve_port()
        self._listener: socket.socket | None = None
        self._group: asyncio.TaskGroup | None = None
        self.port: int = self._holder.getsockname()[1]

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._listen()
                ready.set()
                await asyncio.Event().wait()
        finally:
            self._refuse()
            self._holder.close()

    async def apply(self, faults: Faults) -> None:
        """Put faults in force, for open connections too."""
        before, self.faults = self.faults, faults
        self.changed_at = asyncio.get_running_loop().time()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if faults.cut_after_bytes != before.cut_after_bytes:
            for link in self._links:
                link.budget = faults.cut_after_bytes
        if faults.is_refusing != before.is_refusing:
            (self._refuse if faults.is_refusing else self._listen)()
        await self._reset({link for link in self._links if link.has_hole()})

    async def reset(self) -> int:
        """Reset all connections; return how many there were."""
        links = set(self._links)
        await self._reset(links)
        return len(links)

    async def read_tally(self) -> Tally:
        """Return the numbers as they are now."""
        return msgspec.structs.replace(self.tally, open=len(self._links))

    async def wait_until(self, moment: float) -> None:
        """Wait until then, or until the faults change."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(moment):
                await self._changed.wait()

    async def wait_for_change(self) -> None:
        """Wait until the faults change."""
        await self._changed.wait()

    def sockets(self) -> Iterator[socket.socket]:
        """Return everything that is open, for a child process to let go of."""
        yield self._holder
        if self._listener is not None:
            yield self._listener
        for link in self._links:
            yield from link.sockets()

    async def _reset(self, links: set[_Link]) -> None:
        tasks = [task for link in links if (task := link.reset()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_DRAIN_SECONDS)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((LOOPBACK, self.port))
        listener.listen(_BACKLOG)
        self._listener = listener
        self._watch(listener)

    def _refuse(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _watch(self, listener: socket.socket) -> None:
        if listener is self._listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        assert self._group is not None  # noqa: S101 - it listens only while it runs
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            self._accept_later(listener)
            return
        try:
            link = _Link(self, client)
        except OSError:
            client.close()
            self._accept_later(listener)
            return
        self.tally.connections += 1
        self._links.add(link)
        link.task = self._group.create_task(link.run())
        link.task.add_done_callback(lambda _: self._forget(link))

    def _accept_later(self, listener: socket.socket) -> None:
        # Out of file descriptors, most likely: come back when some may be free again.
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_ACCEPT_AGAIN_SECONDS, self._watch, listener)

    def _forget(self, link: _Link) -> None:
        self._links.discard(link)
        link.close()
        self.tally.resets += int(link.is_reset)


class _Link:
    """One connection: the client's, and the one to the target."""

    def __init__(self, relay: Relay, client: socket.socket) -> None:
        self.relay = relay
        self.client = client
        self.target = socket.socket(relay.family)
        self.reached = asyncio.Event()
        self.budget = relay.faults.cut_after_bytes
        self.is_reset = False
        self.task: asyncio.Task[None] | None = None
        self._pipes = (_Pipe(self, Direction.UP), _Pipe(self, Direction.DOWN))
        for one in self.sockets():
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Carry bytes both ways until both have ended, or one has failed."""
        up, down = self._pipes
        try:
            async with asyncio.TaskGroup() as group:
                up.start(group)
                await self._reach()
                self.reached.set()
                down.start(group)
        except* OSError:
            self.is_reset = True
        self.close()

    def reset(self) -> asyncio.Task[None] | None:
        """Have both ends reset; return the task that ends with it."""
        self.is_reset = True
        if self.task is not None:
            self.task.cancel()
        return self.task

    def close(self) -> None:
        """Let go of both ends. Again is harmless."""
        for one in self.sockets():
            if self.is_reset and one.fileno() >= 0:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            one.close()

    def has_hole(self) -> bool:
        """Whether bytes are lost that a peer would miss from now on."""
        return any(pipe.has_lost and not pipe.shape.is_blackhole for pipe in self._pipes)

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """Return the client's and the target's."""
        return self.client, self.target

    async def _reach(self) -> None:
        relay = self.relay
        while relay.faults.shapes[Direction.UP].is_blackhole:
            await relay.wait_for_change()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(self.target, relay.address)
        except OSError:
            relay.tally.unreachable += 1
            raise


class _Pipe:
    """One direction of a connection."""

    def __init__(self, link: _Link, direction: Direction) -> None:
        self.has_lost = False
        self._link = link
        self._relay = link.relay
        self._direction = direction
        self._from, self._to = link.sockets() if direction is Direction.UP else link.sockets()[::-1]
        self._queue: deque[tuple[float, float, bytes]] = deque()
        self._under_way_bytes = 0
        self._moved = asyncio.Event()
        self._last = 0.0
        self._free = 0.0

    @property
    def shape(self) -> Shape:
        """What holds now."""
        return self._relay.faults.shapes[self._direction]

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin to carry."""
        group.create_task(self._read())
        group.create_task(self._write())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            while self._under_way_bytes >= buffer_bytes(self.shape):
                await self._move()
            data = await loop.sock_recv(self._from, chunk_bytes(self.shape))
            await self._send_slowly(len(data))
            now = loop.time()
            self._last = max(
                arrival(self._last, 0.0, self.shape, self._relay.changed_at),
                now + delay_seconds(self.shape, self._relay.source),
            )
            self._queue.append((self._last, now, data))
            self._under_way_bytes += len(data)
            self._moved.set()

    async def _send_slowly(self, size_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        begin = self._free if loop.time() - self._free < _CREDIT_SECONDS else loop.time()
        while (free := begin + sending_seconds(self.shape, size_bytes)) > loop.time():
            await self._relay.wait_until(free)
        self._free = free

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            while not self._queue:
                await self._move()
            planned, set_out, data = self._queue[0]
            while (due := arrival(planned, set_out, self.shape, self._relay.changed_at)) > loop.time():
                await self._relay.wait_until(due)
            self._queue.popleft()
            await self._deliver(data)
            self._under_way_bytes -= len(data)
            self._moved.set()

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    async def _deliver(self, data: bytes) -> None:
        tally = self._relay.tally
        if self.shape.is_blackhole:
            self.has_lost = True
            tally.bytes_lost += len(data)
            return
        if self._direction is Direction.UP:
            await self._link.reached.wait()
            await self._pass_on(data)
            tally.bytes_up += len(data)
            return
        budget = self._link.budget
        if budget is None or not data:
            await self._pass_on(data)
            tally.bytes_down += len(data)
            return
        await self._pass_until_cut(data[:budget])

    async def _pass_until_cut(self, data: bytes) -> None:
        if data:
            await self._pass_on(data)
            self._relay.tally.bytes_down += len(data)
        if self._link.budget is not None:  # the fault may have been healed while we sent
            self._link.budget -= len(data)
            if self._link.budget <= 0:
                await _drain(self._to)
                raise ConnectionResetError(errno.ECONNRESET, "cut, as ordered")

    async def _pass_on(self, data: bytes) -> None:
        if data:
            await asyncio.get_running_loop().sock_sendall(self._to, data)
            return
        with contextlib.suppress(OSError):  # it has gone already: the other direction sees how
            self._to.shutdown(socket.SHUT_WR)


async def _drain(sender: socket.socket) -> None:
    """Wait until the peer's kernel has all that was sent: a reset would take the rest away."""
    waiting = b"\xff"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while any(waiting):
                await asyncio.sleep(_DRAIN_EVERY_SECONDS)
                waiting = fcntl.ioctl(sender, termios.TIOCOUTQ, b"\0\0\0\0")
