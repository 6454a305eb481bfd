"""Limits on every route and transport: what is refused, what is charged, what nobody gets for free."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from pratique.orchestrator.access.settings import AccessSettings, LimitsSettings
from pratique.orchestrator.upstream.interface import UpstreamEnd, UpstreamStart, UpstreamToken
from pratique.orchestrator.upstream.scripted import Hang, Pause

pytestmark = pytest.mark.unit

# A `Service` of conftest.py, which importlib mode keeps from being imported by name.
Service = Any
SSE = {"accept": "text/event-stream"}
START = UpstreamStart(model="m", prompt_tokens=30)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=30, completion_tokens=20)


def access(*, limits: LimitsSettings) -> AccessSettings:
    return AccessSettings(limits=limits)


async def test_a_message_beyond_the_rate_is_refused_on_every_transport_and_leaves_nothing(service: Service) -> None:
    await service.start(access=access(limits=LimitsSettings(requests_per_minute=1)))
    await service.post("/api/chat", service.message())
    for headers in ({}, SSE):
        async with service.http.post("/api/chat", json=service.message(), headers=headers) as response:
            assert response.status == 429
            assert (await response.json())["error"]["code"] == "rate_limited"
            assert 1 <= int(response.headers["retry-after"]) <= 60
            assert response.headers["ratelimit-policy"] == '"requests";q=1;w=60'
            assert response.headers["ratelimit"].startswith('"requests";r=0;t=')
    async with service.socket() as socket:
        message = service.message()
        await socket.send("message", **message)
        error = await socket.receive("error")
        assert error["client_message_id"] == message["client_message_id"]
        assert error["error"]["code"] == "rate_limited"
        assert error["error"]["retry_after_seconds"] > 0
    assert len((await service.get("/api/conversations"))["conversations"]) == 1
    rendered = service.replica.runtime.metrics.render().decode()
    assert 'pratique_access_limits_reached_total{limit="requests"} 3.0' in rendered


async def test_a_message_that_is_sent_again_costs_a_request_and_no_tokens(service: Service) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), END)]
    await service.start(access=access(limits=LimitsSettings(requests_per_minute=3, tokens_per_day=600)))
    message = service.message()
    first = await service.post("/api/chat", message)
    await asyncio.sleep(0.02)
    for _ in range(2):
        assert (await service.post("/api/chat", message))["generation_id"] == first["generation_id"]
    await service.post("/api/chat", message, status=429)
    [account] = service.replica.runtime.limiter._accounts.values()
    assert account.levels["day"].level == pytest.approx(50, abs=1)


async def test_a_message_that_is_sent_again_while_its_reply_runs_leaves_the_replys_place_taken(
    service: Service,
) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Hang())]
    await service.start(access=access(limits=LimitsSettings(concurrent=1)))
    message = service.message()
    async with service.socket() as socket:
        for _ in range(2):
            await socket.send("message", **message)
            await socket.receive("accepted")
            await socket.receive("token")
        await asyncio.sleep(0.02)
        await socket.send("message", **service.message())
        assert (await socket.receive("error"))["error"]["code"] == "rate_limited"


async def test_what_was_erased_and_is_sent_again_is_paid_again_or_refused(service: Service) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), END)] * 3
    await service.start(access=access(limits=LimitsSettings(requests_per_minute=3, concurrent=1)))
    message = service.message()
    for status in (200, 200, 200, 429):
        await service.post("/api/chat", message, status=status)
        await asyncio.sleep(0.02)
        async with service.http.delete("/api/me/data") as response:
            assert response.status == 200
    assert len(service.upstream.requests) == 3


async def test_what_is_erased_while_it_runs_and_sent_again_at_once_makes_no_second_reply_for_free(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Hang())] * 2
    await service.start(access=access(limits=LimitsSettings(concurrent=1)))
    # The erased one has not stopped yet.
    monkeypatch.setattr(type(service.replica.runtime.service), "_stop", _stop_nothing)
    message = service.message()
    async with service.socket() as socket:
        await socket.send("message", **message)
        await socket.receive("token")
        async with service.http.delete("/api/me/data") as response:
            assert response.status == 200
        await socket.send("message", **message)
        assert (await socket.receive("error"))["error"]["code"] == "rate_limited"
        await asyncio.sleep(0.05)
    assert len(service.upstream.requests) == 1
    assert all(one.record.status.value == "finished" for one in service.store._generations.values())


async def test_a_message_that_could_not_be_stored_costs_no_tokens(service: Service) -> None:
    await service.start(access=access(limits=LimitsSettings(tokens_per_day=600)))
    for _ in range(3):
        await service.post("/api/chat", service.message(conversation_id="conv_0"), status=404)
    await service.post("/api/chat", service.message())


async def test_tokens_are_settled_by_what_the_engine_says(service: Service) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), END)] * 3
    await service.start(access=access(limits=LimitsSettings(tokens_per_day=1000)))
    # Each is taken for 516 and costs 50: two at once do not fit, one after the other three do.
    for _ in range(3):
        await service.post("/api/chat", service.message(max_tokens=512))
        await asyncio.sleep(0.02)
    limiter = service.replica.runtime.limiter
    [account] = limiter._accounts.values()
    assert account.reserved == {}
    assert account.levels["day"].level == pytest.approx(150, abs=1)


async def test_replies_at_once_are_bounded_until_one_ends(service: Service) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Pause(0.3), END)]
    await service.start(access=access(limits=LimitsSettings(concurrent=1)))
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        await socket.receive("token")
        await socket.send("message", **service.message())
        assert (await socket.receive("error"))["error"]["code"] == "rate_limited"
        await socket.receive("ended")
        await asyncio.sleep(0.02)
        await socket.send("message", **service.message())
        await socket.receive("accepted")


async def test_a_reply_that_is_cancelled_gives_its_stream_back(service: Service) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Hang())]
    await service.start(access=access(limits=LimitsSettings(concurrent=1)))
    async with service.socket() as socket:
        await socket.send("message", **service.message())
        accepted = await socket.receive("accepted")
        await socket.receive("token")
        await socket.send("cancel", generation_id=accepted["generation_id"])
        await socket.receive("ended")
        await asyncio.sleep(0.02)
        await socket.send("message", **service.message())
        await socket.receive("accepted")


async def test_a_principal_has_so_many_connections(service: Service) -> None:
    await service.start(access=access(limits=LimitsSettings(connections=1)))
    async with service.socket() as socket:
        await socket.receive("hello")
        async with service.socket() as second:
            assert await second.closed() == 1013
        async with service.http.post("/api/chat", json=service.message(), headers=SSE) as response:
            assert response.status == 429
    async with service.person() as other, other.ws_connect("/api/ws") as third:
        assert (await third.receive_json())["type"] == "hello"


async def test_a_flood_of_frames_is_told_to_stop_then_cut(service: Service) -> None:
    limits = LimitsSettings(frames_per_second=1, frames_burst=5)
    await service.start(access=access(limits=limits))
    async with service.socket() as socket:
        for _ in range(12):
            await socket.send("ping")
        for _ in range(5):
            await socket.receive("pong")
        assert (await socket.receive("error"))["error"]["code"] == "rate_limited"
        assert await socket.closed() == 1013


async def test_who_makes_sessions_without_end_is_refused_and_those_with_one_are_not(service: Service) -> None:
    limits = LimitsSettings(new_sessions_per_minute=2)
    await service.start(access=access(limits=limits))
    statuses = []
    for path in ("/", "/api/session", "/"):
        async with aiohttp.ClientSession(service.url) as http, http.get(path) as response:
            statuses.append(response.status)
    assert statuses == [200, 429, 429]
    await service.get("/api/session")


async def test_who_has_a_network_of_addresses_makes_sessions_as_one(service: Service) -> None:
    limits = LimitsSettings(new_sessions_per_minute=2)
    await service.start(access=AccessSettings(limits=limits, trusted_proxies=("127.0.0.1",)))
    statuses: list[int] = []
    for last in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"):
        # What the client says itself stands before what the proxy adds, in a line of its own or not.
        headers = [("x-forwarded-for", f"198.51.100.{len(statuses)}"), ("x-forwarded-for", last)]
        async with aiohttp.ClientSession(service.url) as http, http.get("/api/session", headers=headers) as response:
            statuses.append(response.status)
    assert statuses == [200, 200, 429, 200]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/conversations", None),
        ("GET", "/api/conversations/conv_0", None),
        ("GET", "/api/conversations/conv_0/events", None),
        ("GET", "/api/me/export", None),
        ("DELETE", "/api/me/data", None),
        ("POST", "/api/cancel", {"generation_id": "gen_0"}),
        ("POST", "/api/chat", {"client_message_id": "message-1", "text": "x"}),
        ("POST", "/api/retry", {"client_message_id": "message-1", "conversation_id": "conv_0"}),
    ],
)
async def test_requests_of_a_principal_come_in_a_burst_then_at_their_rate_on_every_route(
    service: Service, method: str, path: str, body: dict[str, Any] | None
) -> None:
    await service.start(access=access(limits=LimitsSettings(frames_per_second=0.01, frames_burst=2)))
    statuses = []
    for _ in range(4):
        async with service.http.request(method, path, json=body) as response:
            statuses.append(response.status)
    assert 429 not in statuses[:2]
    assert statuses[2:] == [429, 429]
    async with service.socket() as socket:
        assert await socket.closed() == 1013
    async with service.person() as other, other.request(method, path, json=body) as response:
        assert response.status != 429


@pytest.mark.parametrize("headers", [{}, SSE], ids=["json", "sse"])
@pytest.mark.parametrize(("own", "status"), [(1, 429), (0, 503)], ids=["the-principals", "the-replicas"])
async def test_who_waits_for_a_reply_counts_among_the_connections(
    service: Service, headers: dict[str, str], own: int, status: int
) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Hang())]
    limits = LimitsSettings(connections=own)
    await service.start(access=access(limits=limits), max_connections=99 if own else 1)
    runtime = service.replica.runtime
    async with service.person() as someone:
        waiting = asyncio.ensure_future(service.http.post("/api/chat", json=service.message(), headers=headers))
        async with asyncio.timeout(3):
            while not runtime.num_connections:  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
        for refused in (SSE, {}):
            await service.post("/api/chat", service.message(), status=status, headers=refused)
        for path in ("/api/me/export", "/api/conversations/conv_0/events"):
            await service.get(path, status=status)
        async with someone.get("/api/me/export") as response:
            assert response.status == (200 if own else 503)
        assert len((await service.get("/api/conversations"))["conversations"]) == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.result().close()


async def test_what_is_held_for_a_request_is_given_back_whatever_came_of_it(service: Service) -> None:
    await service.start(access=access(limits=LimitsSettings(connections=1)), max_connections=1)
    for headers in ({}, SSE):
        bodies: list[dict[str, Any]] = [service.message(), {}, service.message(conversation_id="conv_0")]
        for body in bodies:
            async with service.http.post("/api/chat", json=body, headers=headers) as response:
                await response.read()
                assert response.status in {200, 400, 404}
    for path in ("/api/me/export", "/api/conversations/conv_0/events"):
        async with service.http.get(path) as response:
            await response.read()
            assert response.status in {200, 404}
    await asyncio.sleep(0.01)
    runtime = service.replica.runtime
    assert (runtime.num_connections, runtime.connections._open, runtime.personal._busy) == (0, {}, set())


async def test_a_person_has_one_export_or_erasure_at_a_time(service: Service) -> None:
    await service.start()
    runtime = service.replica.runtime
    async with service.http.get("/api/session") as response:
        name = (await response.json())["principal_id"]
    runtime.personal._busy.add(name)
    await service.get("/api/me/export", status=429)
    async with service.http.delete("/api/me/data") as response:
        assert response.status == 429
    runtime.personal._busy.clear()
    async with service.http.delete("/api/me/data") as response:
        assert response.status == 200


async def _stop_nothing(*_: object) -> None:
    """Take a while: longer than the test."""
