"""Carries the faults out, each at its time, and logs when it began and ended.

A fault that lasts is undone by the same task that began it, also when it is cancelled: nothing stays paused, cut or
locked. A killed or restarted service's links refuse until it listens again, as its own port would without a proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from benchmarks.drill.faults import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from benchmarks.drill.faults import Fault
    from benchmarks.drill.house import House

    from pratique.testkit.choreography.tcp import TcpProxy

__all__ = ["DoneFault", "Nemesis"]

_DELAY_SECONDS: Final = 0.4
_JITTER_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.05
_BACK_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class DoneFault:
    """A fault as it happened. Seconds since the load began."""

    fault: Fault
    began: float
    ended: float
    """When it was undone; of a kill or restart, when the service was ready again."""
    note: str = ""


class Nemesis:
    """Breaks one house."""

    def __init__(self, house: House, now: Callable[[], float], say: Callable[[str], None]) -> None:
        self.done: list[DoneFault] = []
        self._house = house
        self._now = now
        self._say = say

    async def run(self, faults: tuple[Fault, ...]) -> None:
        """Do all of it; return when the last is undone."""
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                tasks.create_task(self._wait_and_do(fault))

    async def _wait_and_do(self, fault: Fault) -> None:
        await asyncio.sleep(max(0.0, fault.begins - self._now()))
        began = self._now()
        self._say(f"{began:7.1f} s  {fault.kind.value:9} {fault.part.name}")
        note = ""
        try:
            async with self._broken(fault):
                await asyncio.sleep(fault.lasts)
        except TimeoutError:
            note = f"was not ready again within {_BACK_SECONDS:.0f} s"
        except (OSError, sqlite3.Error) as error:
            note = f"could not be done: {error}"
        self.done.append(DoneFault(fault=fault, began=began, ended=self._now(), note=note))

    @asynccontextmanager
    async def _broken(self, fault: Fault) -> AsyncIterator[None]:
        name = fault.part.name
        match fault.kind:
            case Kind.KILL | Kind.RESTART:
                await self._start_anew(name, fault.kind)
                yield
            case Kind.PAUSE:
                async with self._paused(name):
                    yield
            case Kind.LOCK:
                async with self._locked():
                    yield
            case Kind.CUT | Kind.SILENCE | Kind.HALF_OPEN | Kind.DELAY:
                async with _faulty(self._house.links[name], fault.kind):
                    yield
            case _:
                assert_never(fault.kind)

    async def _start_anew(self, name: str, kind: Kind) -> None:
        before = self._house.pid(name)
        if kind is Kind.RESTART:
            self._house.restart(name)
        elif before is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(before, signal.SIGKILL)
        async with asyncio.timeout(_BACK_SECONDS):
            links = self._house.inward(name)
            try:
                while self._house.pid(name) in {before, None} or not self._house.is_ready(name):
                    await asyncio.to_thread(_follow, links, self._house.address(name))
                    await asyncio.sleep(_LOOK_SECONDS)
            finally:
                for link in links:
                    await asyncio.to_thread(link.heal)

    @asynccontextmanager
    async def _paused(self, name: str) -> AsyncIterator[None]:
        pid = self._house.pid(name)
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            # The same group only: its number may be somebody else's once its service was killed meanwhile.
            if pid is not None and self._house.pid(name) == pid:
                os.killpg(pid, signal.SIGCONT)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        connection = sqlite3.connect(self._house.database, isolation_level=None, timeout=5)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()


@asynccontextmanager
async def _faulty(link: TcpProxy, kind: Kind) -> AsyncIterator[None]:
    def begin() -> None:
        if kind is Kind.CUT:
            link.refuse()
            link.reset()
        elif kind is Kind.DELAY:
            link.latency(_DELAY_SECONDS, jitter=_JITTER_SECONDS)
        else:
            link.blackhole(direction="both" if kind is Kind.SILENCE else "down")

    await asyncio.to_thread(begin)
    try:
        yield
    finally:
        await asyncio.shield(asyncio.to_thread(link.heal))


def _follow(links: tuple[TcpProxy, ...], address: tuple[str, int]) -> None:
    """Refuse where the service would."""
    try:
        socket.create_connection(address, timeout=0.5).close()
    except OSError:
        for link in links:
            link.refuse()
    else:
        for link in links:
            link.heal()
