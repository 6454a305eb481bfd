"""Asks every model server how it is, and says what changed: the model's state for pages and for `status`.

It does not decide where requests go (the edge does, by its own health checks); it is what people are shown.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import aiohttp
import msgspec

from pratique.core.events import get_logger
from pratique.orchestrator.protocol.events import ModelReplica, ModelState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pratique.core.clock import Clock
    from pratique.orchestrator.settings import StatusAddress

__all__ = ["ModelPoller", "StatusSource"]

_logger = get_logger("upstream")
_MAX_STATUS_BYTES = 256 * 1024
_Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Status(msgspec.Struct):
    """What is read of a model server's /status; it says more."""

    state: str
    detail: str = ""
    progress: _Fraction | None = None
    eta_seconds: float | None = None


class StatusSource:
    """Fetches one /status."""

    def __init__(self, session: aiohttp.ClientSession, *, timeout_seconds: float = 1.0) -> None:
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def fetch(self, name: str, url: str) -> ModelReplica:
        """Return what the server says of itself; "unreachable" where it says nothing that can be read."""
        try:
            async with self._session.get(f"{url}/status", timeout=self._timeout) as response:
                raw = await _read_at_most(response, _MAX_STATUS_BYTES)
            said = msgspec.json.decode(raw, type=_Status)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError):
            return ModelReplica(name=name, state="unreachable")
        return ModelReplica(
            name=name, state=said.state, detail=said.detail, progress=said.progress, eta_seconds=said.eta_seconds
        )


class ModelPoller:
    """Polls until cancelled; `state` is the newest, and `listeners` are called with each that differs."""

    def __init__(
        self, source: StatusSource, addresses: Sequence[StatusAddress], *, clock: Clock, poll_seconds: float = 1.0
    ) -> None:
        self._source = source
        self._addresses = tuple(addresses)
        self._clock = clock
        self._poll_seconds = poll_seconds
        self.listeners: set[Callable[[ModelState], None]] = set()
        self.state = ModelState(
            ready=False, replicas=tuple(ModelReplica(name=name, state="unreachable") for name, _ in self._addresses)
        )

    async def run(self) -> None:
        while True:
            await self.poll()
            await self._clock.sleep(self._poll_seconds)

    async def poll(self) -> None:
        """Ask everybody once."""
        replicas = await asyncio.gather(*(self._source.fetch(name, url) for name, url in self._addresses))
        state = ModelState(ready=any(one.takes_traffic for one in replicas), replicas=tuple(replicas))
        if state == self.state:
            return
        if state.ready != self.state.ready:
            _logger.info("model_ready" if state.ready else "model_not_ready")
        self.state = state
        for listener in tuple(self.listeners):
            listener(state)


async def _read_at_most(response: aiohttp.ClientResponse, num_bytes: int) -> bytes:
    """Return a body, cut after so many bytes. aiohttp's own `read(n)` returns what has come by then, not the body."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) >= num_bytes:
            break
    return bytes(body[:num_bytes])
