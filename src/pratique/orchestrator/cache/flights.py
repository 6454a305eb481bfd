"""One load per key, however many ask for it.

- The load runs in a task of its own, owned by the task group given: a waiter that is cancelled cancels nobody.
- A failed load fails everybody who waits for it, and nothing of it is kept.
- A key that is outdated while it is loaded gets a new flight for whoever asks from then on; the old one's result goes
  to those who asked before, and is marked as too old to be kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from anyio.abc import TaskGroup

__all__ = ["Flight", "Flights"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Flight(Generic[K, V]):
    """A load under way. `floor`: what it finds must be at least this version to be kept."""

    def __init__(self, key: K) -> None:
        self.key = key
        self.floor = 0
        self._landed = asyncio.Event()
        self._value: V | None = None
        self._error: BaseException | None = None

    async def result(self) -> V:
        """Wait for the landing; return its value or raise its error."""
        await self._landed.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set on every landing without an error

    async def fly(self, load: Callable[[Flight[K, V]], Awaitable[V]]) -> None:
        """Load and land; never raises but for the cancellation of its own task."""
        try:
            self._value = await load(self)
        except Exception as error:  # noqa: BLE001 - a task ends here; the waiters raise it
            self._error = error
        self._landed.set()

    def abort(self) -> None:
        """Fail whoever waits: the load will not come to its end."""
        self._error = StoreUnavailableError("The reader was closed while it was loading.")
        self._landed.set()


class Flights(Generic[K, V]):
    """The loads under way, by key."""

    def __init__(self, tasks: TaskGroup, load: Callable[[Flight[K, V]], Awaitable[V]]) -> None:
        self._tasks = tasks
        self._load = load
        self._open: dict[K, Flight[K, V]] = {}
        self._flying: set[Flight[K, V]] = set()

    def __len__(self) -> int:
        """Return how many loads can be joined."""
        return len(self._open)

    def join(self, key: K) -> tuple[Flight[K, V], bool]:
        """Return the key's flight, and whether it was under way already."""
        present = self._open.get(key)
        if present is not None:
            return present, True
        flight: Flight[K, V] = Flight(key)
        self._open[key] = flight
        self._flying.add(flight)
        self._tasks.start_soon(self._fly, flight)
        return flight, False

    def outdate(self, key: K, version: int) -> None:
        """Let nobody join the key's flight any more, and keep nothing older than `version` from it."""
        flight = self._open.pop(key, None)
        if flight is not None:
            flight.floor = max(flight.floor, version)

    def outdate_all(self, version: int) -> None:
        """Outdate every flight."""
        for key in list(self._open):
            self.outdate(key, version)

    def abort(self) -> None:
        """Fail what is still under way, after the task group that flew it has ended."""
        for flight in self._flying:
            flight.abort()
        self._flying.clear()
        self._open.clear()

    async def _fly(self, flight: Flight[K, V]) -> None:
        await flight.fly(self._load)
        self._flying.discard(flight)
        if self._open.get(flight.key) is flight:
            del self._open[flight.key]
