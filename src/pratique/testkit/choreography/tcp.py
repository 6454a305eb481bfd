"""Faults of connections, in front of any TCP server: latency, bandwidth, resets, blackholes, refusals.

    def test_a_slow_cache_is_given_up(tcp_faults, valkey):
        proxy = tcp_faults(valkey)
        with proxy.latency(2.0):
            ...  # the code under test talks to proxy.url

The proxies of a test run in one thread with an event loop of its own, so that a test's own loop is not needed and not
disturbed. When a switch returns, it is in force. Everything ends with the test. A forked child lets go of all sockets;
it can use the proxy's address, not its switches.
"""

from __future__ import annotations

import asyncio
import functools
import os
import selectors
import threading
import weakref
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, overload

from pratique.testkit.choreography.relay import Relay, Tally
from pratique.testkit.choreography.shaping import (
    Faults,
    change,
    read_directions,
    require_count,
    require_rate,
)
from pratique.testkit.choreography.target import Target, reach, read_target
from pratique.testkit.errors import ProxyStuckError, TestkitUsageError
from pratique.testkit.ports import LOOPBACK
from pratique.testkit.timing import require_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

__all__ = ["Fault", "TcpFaults", "TcpProxy"]

R = TypeVar("R")
Directions = Literal["both", "up", "down"]

_CALL_SECONDS: Final = 15.0
_PROBE_SECONDS: Final = 5.0


class Fault:
    """A fault that is in force. As a context manager it ends with the block: what held before holds again."""

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo = undo

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._undo()


class TcpProxy:
    """A port that leads to a target, and the switches of its faults."""

    def __init__(self, loop: _LoopThread, relay: Relay, target: Target) -> None:
        self.host = LOOPBACK
        self.port = relay.port
        self.url = target.url_at(self.host, self.port)
        """The target's URL, credentials and path kept, leading here."""
        self._loop = loop
        self._relay = relay
        self._faults = Faults()

    def latency(self, seconds: float, *, jitter: float = 0.0, direction: Directions = "both") -> Fault:
        """Delay every byte, each way; order and throughput stay. A request and its answer take both ways.

        Args:
            seconds: one way.
            jitter: plus or minus so many seconds, drawn for each chunk.
            direction: `up` to the target, `down` to the client, or `both`.
        """
        delay, spread = require_seconds("latency", seconds), require_seconds("jitter", jitter)
        return self._shape(direction, latency_seconds=delay, jitter_seconds=spread)

    def bandwidth(self, bytes_per_second: float, *, direction: Directions = "both") -> Fault:
        """Let no more through, for each connection and direction."""
        return self._shape(direction, bytes_per_second=require_rate(bytes_per_second))

    def blackhole(self, *, direction: Directions = "both") -> Fault:
        """Accept, swallow, never answer, as behind a firewall that drops packets; open connections too.

        Connections that lost bytes are reset when it ends; the others go on.
        """
        return self._shape(direction, is_blackhole=True)

    def refuse(self) -> Fault:
        """Refuse new connections. Open ones go on."""
        before = self._faults.is_refusing
        self._apply(replace(self._faults, is_refusing=True))
        return Fault(lambda: self._apply(replace(self._faults, is_refusing=before)))

    @overload
    def reset(self) -> int: ...
    @overload
    def reset(self, *, after_bytes: int) -> Fault: ...
    def reset(self, *, after_bytes: int | None = None) -> Fault | int:
        """Reset all open connections now (return how many), or every connection when so many bytes have come down.

        Bytes are counted from now on for open connections, from the first for new ones. With 0 the connection is
        reset in place of the answer's first byte.
        """
        if after_bytes is None:
            return self._loop.call(self._relay.reset())
        before = self._faults.cut_after_bytes
        self._apply(replace(self._faults, cut_after_bytes=require_count("after_bytes", after_bytes)))
        return Fault(lambda: self._apply(replace(self._faults, cut_after_bytes=before)))

    def heal(self) -> None:
        """End all faults. What was delayed arrives at once."""
        self._apply(Faults())

    @property
    def tally(self) -> Tally:
        """Connections and bytes up to now."""
        return self._loop.call(self._relay.read_tally())

    def _shape(self, direction: str, **fields: Any) -> Fault:  # noqa: ANN401 - fields of Shape
        directions = read_directions(direction)
        before = {one: {name: getattr(self._faults.shapes[one], name) for name in fields} for one in directions}
        self._apply(change(self._faults, directions, **fields))

        def undo() -> None:
            faults = self._faults
            for one, held in before.items():
                faults = change(faults, (one,), **held)
            self._apply(faults)

        return Fault(undo)

    def _apply(self, faults: Faults) -> None:
        self._loop.call(self._relay.apply(faults))
        self._faults = faults


class TcpFaults:
    """The proxies of one test: call it with what is to be proxied."""

    def __init__(self) -> None:
        self._loop = _LoopThread()

    def __call__(self, target: object, *, seed: int = 0, probe_seconds: float | None = _PROBE_SECONDS) -> TcpProxy:
        """Return a proxy in front of a target.

        Args:
            target: anything with a `url` (an endpoint, a namespace, a private server), a URL, `host:port`, or a pair.
            seed: of the jitter.
            probe_seconds: how long to try to reach it before this is an error. None: it is not asked, for a target
                that comes later or counts its connections.

        Raises:
            TestkitUsageError: the target means nothing.
            TargetUnreachableError: nobody answers there.
        """
        read = read_target(target)
        family, address = reach(read, probe_seconds)
        source = Random(seed)  # noqa: S311 - jitter that can be repeated
        return TcpProxy(self._loop, self._loop.start_relay(lambda: Relay(family, address, source)), read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all proxies and the thread. Again is harmless."""
        self._loop.close()


class _LoopThread:
    """One thread with an event loop. It starts with the first relay."""

    def __init__(self) -> None:
        self._selector: selectors.BaseSelector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._relays: list[Relay] = []
        self._is_closed = False
        self._process = os.getpid()

    def start_relay(self, make: Callable[[], Relay]) -> Relay:
        """Start a relay; return when it listens."""
        if self._thread is None and not self._is_closed:
            self._start()
        return self.call(self._run_relay(make))

    def call(self, work: Coroutine[Any, Any, R]) -> R:
        """Do something in the thread, and wait for it.

        Raises:
            TestkitUsageError: the thread is gone, or another process's.
            ProxyStuckError: the thread does not get to it.
        """
        if self._process != os.getpid() or self._is_closed or self._loop is None:
            work.close()
            if self._process != os.getpid():
                raise TestkitUsageError(
                    f"This proxy belongs to process {self._process}, not to its child {os.getpid()}.",
                    hint="Use its url here, its switches there.",
                )
            raise TestkitUsageError(
                "The proxy is closed: its test has ended.", hint="Make one in each test, with the fixture tcp_faults."
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_CALL_SECONDS)
        except TimeoutError as error:
            future.cancel()
            raise _stuck() from error

    def close(self) -> None:
        """End all relays and the thread."""
        if self._is_closed or self._process != os.getpid():
            return
        if self._loop is not None and self._thread is not None:
            self.call(self._cancel())
            self._thread.join(_CALL_SECONDS)
        self._is_closed = True

    def let_go(self) -> None:
        """In a forked child: close the copies of the parent's sockets, which would keep its connections open."""
        for relay in self._relays:
            for one in relay.sockets():
                one.close()
        if self._selector is not None:
            self._selector.close()  # our descriptor of it only; taking sockets out of it would do so in the parent

    def _start(self) -> None:
        _close_in_children()
        _LOOPS.add(self)
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="pratique-tcp-faults", daemon=True)
        self._thread.start()
        if not started.wait(_CALL_SECONDS):
            raise _stuck()

    def _serve(self, started: threading.Event) -> None:
        # Not the loop of the policy: uvloop, where it is in use, keeps sockets to itself.
        self._selector = selectors.DefaultSelector()
        with asyncio.Runner(loop_factory=functools.partial(asyncio.SelectorEventLoop, self._selector)) as runner:
            runner.run(self._hold(started))

    async def _hold(self, started: threading.Event) -> None:
        self._ended = asyncio.Event()
        async with asyncio.TaskGroup() as self._group:
            self._loop = asyncio.get_running_loop()
            started.set()
            await self._ended.wait()
            for task in self._tasks:
                task.cancel()

    async def _run_relay(self, make: Callable[[], Relay]) -> Relay:
        assert self._group is not None  # noqa: S101 - the loop runs
        relay, ready = make(), asyncio.Event()
        self._relays.append(relay)
        self._tasks.append(self._group.create_task(relay.run(ready)))
        await ready.wait()
        return relay

    async def _cancel(self) -> None:
        self._ended.set()


def _stuck() -> ProxyStuckError:
    return ProxyStuckError(
        f"The thread of the TCP proxies has not answered within {_CALL_SECONDS:g} s.",
        hint="The machine is overloaded, or something holds the interpreter's lock.",
    )


_LOOPS: Final[weakref.WeakSet[_LoopThread]] = weakref.WeakSet()


@functools.cache
def _close_in_children() -> None:
    os.register_at_fork(after_in_child=_let_go_of_all)


def _let_go_of_all() -> None:
    for loop in list(_LOOPS):
        loop.let_go()
    _LOOPS.clear()
