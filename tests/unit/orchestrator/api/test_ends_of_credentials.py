"""Sockets and event streams do not outlive the credential that opened them; the replies that they showed do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from pratique.orchestrator.access import Scope
from pratique.orchestrator.access.keys import ApiKey, ApiKeys, hash_key, mint_key
from pratique.orchestrator.access.sessions import MAX_AGE_SECONDS
from pratique.orchestrator.upstream.interface import UpstreamEnd, UpstreamStart, UpstreamToken
from pratique.orchestrator.upstream.scripted import Hang, Pause

pytestmark = pytest.mark.unit

Service = Any
SSE = {"accept": "text/event-stream"}
START = UpstreamStart(model="m", prompt_tokens=30)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=30, completion_tokens=20)


def bearer(service: Service) -> dict[str, str]:
    return {"authorization": f"Bearer {service.key}"}


def rewrite_keys(service: Service, **changed: Any) -> dict[str, str]:
    """Change the key of the service, and add another one of the same principal; return that one's header."""
    path, text = service.folder / "api-keys.json", mint_key()
    [entry] = msgspec.json.decode(path.read_bytes(), type=ApiKeys).keys
    other = ApiKey(id="key_new", name="x", sha256=hash_key(text), created=0, principal=entry.id)
    path.write_bytes(msgspec.json.encode(ApiKeys(keys=(msgspec.structs.replace(entry, **changed), other))))
    service.replica.runtime.authenticator._keys._looked_at = None
    return {"authorization": f"Bearer {text}"}


async def test_a_socket_and_a_stream_end_with_the_key_that_opened_them(service: Service) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Hang())]
    await service.start()
    rewrite_keys(service, expires=service.replica.runtime.clock.epoch() + 0.6)
    async with aiohttp.ClientSession(service.url, headers=bearer(service)) as http:
        async with http.ws_connect("/api/ws") as socket:
            async with http.post("/api/chat", json=service.message(), headers=SSE) as response:
                assert response.status == 200
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            while (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
                pass
            assert socket.close_code == 4401
        async with http.get("/api/conversations") as response:
            assert response.status == 401


async def test_a_revoked_key_is_served_no_further_frame_and_its_reply_goes_on(service: Service) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Pause(0.2), UpstreamToken("b"), END)]
    await service.start()
    async with aiohttp.ClientSession(service.url, headers=bearer(service)) as http:
        async with http.ws_connect("/api/ws") as socket:
            await socket.send_json({"type": "message", **service.message()})
            name = ""
            while (event := await socket.receive_json(timeout=5))["type"] != "token":
                name = event.get("conversation_id", name)
            other = rewrite_keys(service, revoked=1.0)
            await socket.send_json({"type": "ping"})
            seen = []
            while (received := await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
                seen.append(received.json()["type"])
            assert (socket.close_code, received.extra) == (4401, "credential_expired")
            assert "pong" not in seen
            assert "ended" not in seen
        await asyncio.sleep(0.3)
        # Another key of the same principal sees what was made of it.
        async with http.get(f"/api/conversations/{name}", headers=other) as response:
            assert (await response.json())["turns"][-1]["text"] == "ab"
    rendered = service.replica.runtime.metrics.render().decode()
    assert 'pratique_orchestrator_connections_cut_total{reason="credential_expired"} 1.0' in rendered


@pytest.mark.parametrize("change", [{"revoked": 1.0}, {"expires": 1.0}, {"scopes": (Scope.OPENAI,)}, None])
async def test_who_only_listens_is_cut_at_the_next_heartbeat(service: Service, change: dict[str, Any] | None) -> None:
    service.upstream._scripts += [(START, UpstreamToken("a"), Hang())]
    await service.start(heartbeat_seconds=0.2)
    async with (
        aiohttp.ClientSession(service.url, headers=bearer(service)) as http,
        http.ws_connect("/api/ws") as socket,
        http.post("/api/chat", json=service.message(), headers=SSE) as response,
    ):
        assert response.status == 200
        rewrite_keys(service, **(change or {"id": "key_other"}))
        with pytest.raises(aiohttp.ClientPayloadError):
            await asyncio.wait_for(response.read(), 5)
        while (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert socket.close_code == 4401


async def test_a_socket_whose_key_nobody_can_check_any_more_is_told_to_come_back_later(service: Service) -> None:
    await service.start(heartbeat_seconds=0.2)
    async with (
        aiohttp.ClientSession(service.url, headers=bearer(service)) as http,
        http.ws_connect("/api/ws") as socket,
        service.socket() as other,
    ):
        await socket.receive_json(timeout=5)
        (service.folder / "api-keys.json").write_text("{")
        service.replica.runtime.authenticator._keys._looked_at = None
        while (received := await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (socket.close_code, received.extra) == (1013, "keys_unavailable")
        # Sessions do not depend on it.
        await other.send("ping")
        await other.receive("pong")


async def test_a_socket_ends_with_the_cookie_that_opened_it(service: Service) -> None:
    await service.start()
    signer = service.replica.runtime.authenticator._sessions
    signed = signer._signer.sign("usr_1").decode()
    signer._signer.get_timestamp = lambda: int(time.time()) - MAX_AGE_SECONDS + 1
    old = signer._signer.sign("usr_1").decode()
    del signer._signer.get_timestamp
    for value, is_cut in ((old, True), (signed, False)):
        headers = {"cookie": f"pratique_session={value}"}
        async with (
            aiohttp.ClientSession(service.url, headers=headers) as http,
            http.ws_connect("/api/ws") as socket,
        ):
            assert (await socket.receive_json(timeout=5))["type"] == "hello"
            if is_cut:
                while (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
                    pass
                assert socket.close_code == 4401
