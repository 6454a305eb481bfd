"""A person's own data over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from pratique.orchestrator.access.audit import AuditEvent
from pratique.orchestrator.access.settings import AccessSettings

pytestmark = pytest.mark.unit

# A `Service` of conftest.py, which importlib mode keeps from being imported by name.
Service = Any


class Records:
    """An audit log that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def aclose(self) -> None:
        """Keep everything."""


@pytest.fixture
async def audited(service: Service) -> tuple[Service, Records]:
    await service.start()
    records = Records()
    service.replica.runtime.audit = records
    return service, records


async def _export(http: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with http.get("/api/me/export") as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("application/x-ndjson")
        return [json.loads(line) for line in (await response.text()).splitlines()]


async def test_without_a_session_nothing_is_handed_out_or_erased(service: Service) -> None:
    await service.start()
    await service.post("/api/chat", service.message())
    async with aiohttp.ClientSession(service.url) as nobody:
        for call in (nobody.get("/api/me/export"), nobody.delete("/api/me/data")):
            async with call as response:
                assert response.status == 401
    assert len((await service.get("/api/conversations"))["conversations"]) == 1


async def test_another_origin_erases_nothing(service: Service) -> None:
    await service.start()
    await service.post("/api/chat", service.message())
    async with service.http.delete("/api/me/data", headers={"origin": "https://evil.example"}) as response:
        assert response.status == 403
    assert len((await service.get("/api/conversations"))["conversations"]) == 1


async def test_an_export_holds_all_of_the_askers_and_nothing_of_others(audited: tuple[Service, Records]) -> None:
    service, records = audited
    for text in ("first", "second"):
        await service.post("/api/chat", service.message(text))
    async with service.person() as other:
        header, end = await _export(other)
        assert (header["kind"], end) == ("export", {"kind": "end", "num_conversations": 0, "num_turns": 0})
    header, *conversations, end = await _export(service.http)
    assert header["schema_version"] == 1
    assert sorted(one["conversation"]["title"] for one in conversations) == ["first", "second"]
    assert [turn["turn"]["role"] for turn in conversations[0]["conversation"]["turns"]] == ["user", "assistant"]
    assert end == {"kind": "end", "num_conversations": 2, "num_turns": 4}
    assert [(one.action, one.outcome) for one in records.events] == [("data.export", "ok")] * 2


async def test_erasure_leaves_nothing_also_of_what_is_cached_and_running(audited: tuple[Service, Records]) -> None:
    service, records = audited
    reply = await service.post("/api/chat", service.message())
    there = f"/api/conversations/{reply['conversation_id']}"
    await service.get(there)
    async with service.http.delete("/api/me/data") as response:
        told = await response.json()
    assert told == {"conversations": 1, "turns": 2, "generations": 1, "message_ids": 1, "complete": True}
    await service.get(there, status=404)
    assert (await service.get("/api/conversations"))["conversations"] == []
    assert [(one.action, one.outcome, one.detail) for one in records.events] == [
        ("data.erase", "ok", "1 conversations"),
        ("access", "refused", "conversation_not_found"),
    ]
    async with service.http.delete("/api/me/data") as response:
        assert (await response.json())["conversations"] == 0


async def test_what_is_recorded_names_the_client_behind_the_proxy_and_the_request(service: Service) -> None:
    await service.start(access=AccessSettings(trusted_proxies=("127.0.0.1",)))
    records = service.replica.runtime.audit = Records()
    for request_id, logged in (("abc", "abc"), ("two words", "")):
        headers = {"x-forwarded-for": "203.0.113.9", "x-request-id": request_id}
        for method, path in (("GET", "/api/me/export"), ("DELETE", "/api/me/data")):
            async with service.http.request(method, path, headers=headers) as response:
                assert response.status == 200
                await response.read()
        while len(records.events) < 2:  # noqa: ASYNC110 - an export is recorded behind its last line
            await asyncio.sleep(0.01)
        assert {(one.action, one.remote, one.request_id) for one in records.events} == {
            ("data.export", "203.0.113.9", logged),
            ("data.erase", "203.0.113.9", logged),
        }
        records.events.clear()


async def test_a_store_that_is_down_erases_nothing_and_says_so(audited: tuple[Service, Records]) -> None:
    service, records = audited
    service.store.unavailable = True
    async with service.http.delete("/api/me/data") as response:
        assert response.status == 503
    service.store.unavailable = False
    assert [(one.outcome, one.detail) for one in records.events] == [("failed", "store_unavailable")]
