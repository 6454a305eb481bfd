"""Asks the service all the time, as somebody with no client library would: one request, no retry, a short deadline.

Two questions: `write` has a message stored and answered (edge, orchestrator, store, log, model server), `read` lists
conversations (edge, orchestrator, cache, store).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import aiohttp
from benchmarks.drill.outages import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Prober"]

_EVERY_SECONDS: Final = 0.1
_WRITE_SECONDS: Final = 3.0
_READ_SECONDS: Final = 1.5
_OK: Final = 200


class Prober:
    """Probes until cancelled."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self.samples: list[Sample] = []
        self._url = url
        self._now = now
        self._number = 0
        self._cookie = ""

    async def run(self) -> None:
        """Ask both questions, each at its own pace."""
        # No affinity: each request goes where the edge sends it.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            await self._begin_session(http)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_asking(http, "write"))
                tasks.create_task(self._keep_asking(http, "read"))

    async def _begin_session(self, http: aiohttp.ClientSession) -> None:
        while not self._cookie:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, KeyError):
                async with asyncio.timeout(3), http.get(f"{self._url}/api/session") as response:
                    self._cookie = f"pratique_session={response.cookies['pratique_session'].value}"
            await asyncio.sleep(_EVERY_SECONDS)

    async def _keep_asking(self, http: aiohttp.ClientSession, question: str) -> None:
        while True:
            began = self._now()
            is_ok = await self._ask(http, question)
            ended = self._now()
            self.samples.append(Sample(question=question, began=began, ended=ended, is_ok=is_ok))
            await asyncio.sleep(max(0.01, _EVERY_SECONDS - (ended - began)))

    async def _ask(self, http: aiohttp.ClientSession, question: str) -> bool:
        try:
            if question == "read":
                async with asyncio.timeout(_READ_SECONDS):
                    return await self._status(http, "GET", "/api/conversations?limit=1", None) == _OK
            self._number += 1
            body = {"client_message_id": f"probe-{self._number:08}", "text": "ping", "max_tokens": 2}
            async with asyncio.timeout(_WRITE_SECONDS):
                return await self._status(http, "POST", "/api/chat", body) == _OK
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def _status(self, http: aiohttp.ClientSession, method: str, path: str, body: dict[str, object] | None) -> int:
        headers = {"Cookie": self._cookie, "Accept": "application/json"}
        async with http.request(method, f"{self._url}{path}", json=body, headers=headers) as response:
            await response.read()
            return response.status
