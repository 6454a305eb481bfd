"""A connection to Valkey that was reset under redis-py: uvloop raises a bare RuntimeError, which must mean "away".

One of these ended a whole replica: it left a background task, and with it the process.
"""

from __future__ import annotations

import pytest

from pratique.core.ids import ConversationId
from pratique.orchestrator.cache import SharedCacheError, ValkeySharedCache
from pratique.orchestrator.sessions.log.interface import LogUnavailableError
from pratique.orchestrator.sessions.log.valkey import ValkeyLog

pytestmark = pytest.mark.unit

NOWHERE = "redis://127.0.0.1:1/0"


async def reset(*_: object, **__: object) -> None:
    raise RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False>; the handler is closed")


async def test_log_whose_connection_was_reset_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    log = ValkeyLog(NOWHERE)
    monkeypatch.setattr(log._client, "execute_command", reset)
    with pytest.raises(LogUnavailableError, match="the handler is closed"):
        await log.check()
    await log.aclose()


async def test_cache_whose_connection_was_reset_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ValkeySharedCache(NOWHERE, origin="here")
    monkeypatch.setattr(cache._client, "execute_command", reset)
    with pytest.raises(SharedCacheError, match="the handler is closed"):
        await cache.load(ConversationId("conv_1"))
    await cache.aclose()
