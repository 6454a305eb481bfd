"""Calls made in one turn of the event loop become one round trip.

- Whoever asks waits for its own answer only: one that leaves cancels nobody, and nobody waits for more to join.
- A batch has at most `limit` calls; what is more goes out at the same time, in another batch.
- A failed batch fails all its callers, with the error that the call raised.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from pratique.orchestrator.cache.interface import SharedCacheError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Batches"]

K = TypeVar("K")
V = TypeVar("V")


class Batches(Generic[K, V]):
    """Gathers keys and asks for them together. `ask` returns one answer per key, in their order."""

    def __init__(self, ask: Callable[[Sequence[K]], Awaitable[Sequence[V]]], *, limit: int) -> None:
        self._ask = ask
        self._limit = limit
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def load(self, key: K) -> V:
        """Return the answer to this key; raises what `ask` raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[V] = loop.create_future()
        self._waiting.append((key, answer))
        if len(self._waiting) == self._limit:
            self._send()
        elif len(self._waiting) == 1:
            loop.call_soon(self._send)
        return await answer

    async def aclose(self) -> None:
        """End what is under way; whoever waits gets `SharedCacheError`."""
        _fail(self._waiting, _closed())
        self._waiting.clear()
        asking = [*self._asking]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _send(self) -> None:
        batch = [(key, answer) for key, answer in self._waiting if not answer.done()]
        self._waiting.clear()
        if batch:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _run(self, batch: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            values = await self._ask([key for key, _ in batch])
        except asyncio.CancelledError:
            _fail(batch, _closed())
            raise
        except Exception as error:  # noqa: BLE001 - the task ends here; whoever waits raises it
            _fail(batch, error)
            return
        for (_, answer), value in zip(batch, values, strict=True):
            if not answer.done():
                answer.set_result(value)


def _fail(batch: Sequence[tuple[K, asyncio.Future[V]]], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)


def _closed() -> SharedCacheError:
    return SharedCacheError("The shared cache was closed while it was asked.")
