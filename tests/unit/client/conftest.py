"""A scripted chat service and a client of it, for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.test_utils import TestServer

    from pratique.client import ChatClient


@pytest.fixture
def kit(chat_kit: Any) -> Any:
    return chat_kit


@pytest.fixture
def service(kit: Any) -> Any:
    return kit.Service()


@pytest.fixture
async def server(kit: Any, service: Any) -> AsyncIterator[TestServer]:
    running = await kit.serve(service)
    yield running
    await running.close()


@pytest.fixture
async def chat(kit: Any, server: TestServer) -> AsyncIterator[ChatClient]:
    async with kit.client(server) as client:
        yield client
