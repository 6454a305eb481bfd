"""The Valkey server that tests start."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

pytestmark = pytest.mark.integration


async def test_the_server_of_the_session_answers(valkey_url: str) -> None:
    async with Redis.from_url(valkey_url, socket_timeout=5) as client:
        assert await client.ping() is True
