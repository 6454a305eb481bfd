"""The threat list against real processes: two replicas, one Valkey, an identity provider, and somebody who means harm.

What a single request can do to one replica is tested in tests/unit/orchestrator/api; here is what takes processes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from pratique.orchestrator.access.keyring import ApiKeyring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.orchestrator.upstream.scripted import ScriptedUpstream

pytestmark = pytest.mark.integration

House = Any
SSE = {"accept": "text/event-stream"}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@asynccontextmanager
async def issuer() -> AsyncIterator[str]:
    """An identity provider; yields its name."""
    found = {**json.loads(RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "one"}

    async def discovery(request: web.Request) -> web.Response:
        url = f"http://{request.host}"
        return web.json_response({"issuer": url, "jwks_uri": f"{url}/keys"})

    async def keys(_: web.Request) -> web.Response:
        return web.json_response({"keys": [found]})

    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", discovery)
    application.router.add_get("/keys", keys)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def claims(url: str, **more: Any) -> dict[str, Any]:
    return {"iss": url, "aud": "pratique", "sub": "alice", "exp": time.time() + 60, "scope": "chat", **more}


def bearer(url: str, **more: Any) -> dict[str, str]:
    token = jwt.encode(claims(url, **more), KEY, algorithm="RS256", headers={"kid": "one"})
    return {"authorization": f"Bearer {token}"}


async def two(house: House, **settings: object) -> tuple[Any, Any]:
    starting = (house.start(f"orchestrator-{number}", **settings) for number in range(2))
    return tuple(await asyncio.gather(*starting))


async def ask(http: aiohttp.ClientSession, url: str, **more: Any) -> tuple[int, Any]:
    async with http.request(more.pop("method", "GET"), url, **more) as response:
        return response.status, await response.json()


async def test_anothers_reply_cannot_be_resumed_cancelled_or_guessed_on_any_replica(house: House) -> None:
    here, there = await two(house)
    owner, stranger = await house.client(), await house.client()
    async with owner.socket(here) as socket:
        await owner.say(socket, "tell me a story", message_id="message-0001")
        await owner.read(socket, until_seq=3)
        name, reply = owner.accepted["conversation_id"], owner.accepted["generation_id"]
        # Ids of one millisecond share what stands in front; 80 bits behind it are random.
        guesses = [reply, *(f"{reply[:-1]}{letter}" for letter in "0123456789abcdefghjkmnpqrstvwxyz"), "gen_0"]
        for replica in (here, there):
            events = f"{replica.url}/api/conversations/{name}/events"
            cursor = {"last-event-id": f"{reply}:1"}
            assert (await ask(stranger.http, events, headers=cursor))[0] == 404
            for guess in guesses:
                status, body = await ask(
                    stranger.http, f"{replica.url}/api/cancel", method="POST", json={"generation_id": guess}
                )
                assert (status, body["error"]["code"]) == (404, "generation_not_found")
            async with stranger.socket(replica) as other:
                await other.send_json({**owner.cursor, "type": "resume"})
                while (event := await other.receive_json(timeout=5))["type"] != "error":
                    assert event["type"] in {"hello", "model_state"}
                assert event["error"]["code"] == "conversation_not_found"
        await owner.read(socket)
    assert owner.ended["finish_reason"] == "stop"


async def test_a_cookie_of_another_installation_or_with_another_name_in_it_is_refused(house: House) -> None:
    here, there = await two(house)
    other = await house.start("orchestrator-2", secret_file=str(house.folder / "another-secret"))
    client = await house.client()
    [cookie] = [one for one in client.http.cookie_jar if one.key == "pratique_session"]
    path = "/api/conversations"
    # Not the last letter: of its six bits a signature uses four, so that four letters mean the same.
    forged = f"{cookie.value[:-9]}{'B' if cookie.value[-9] == 'A' else 'A'}{cookie.value[-8:]}"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        for value, replica, status in (
            (cookie.value, here, 200),
            (cookie.value, there, 200),
            (cookie.value, other, 401),
            (cookie.value.replace("usr_", "key_"), here, 401),
            (forged, here, 401),
            (cookie.value.rpartition(".")[0], here, 401),
        ):
            headers = {"cookie": f"pratique_session={value}"}
            assert (await ask(http, f"{replica.url}{path}", headers=headers))[0] == status


async def test_tokens_are_verified_and_end_their_sockets_when_they_end(house: House) -> None:
    async with issuer() as url:
        trusted = {"issuer": url, "audiences": ["pratique"], "leeway_seconds": 0}
        here, there = await two(house, access={"oidc": [trusted], "anonymous": False})
        unsigned = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": "none", "kid": "one"}, claims(url))
        ]
        bad = [
            {},
            {"authorization": f"Bearer {'.'.join(unsigned)}."},
            {"authorization": f"Bearer {'.'.join(unsigned)}.x"},
            bearer(url, aud="other"),
            bearer(url, exp=time.time() - 1),
            bearer(f"{url}/"),
        ]
        async with aiohttp.ClientSession() as http:
            for headers in bad:
                async with http.get(f"{here.url}/api/conversations", headers=headers) as response:
                    assert (response.status, response.headers["www-authenticate"]) == (401, 'Bearer realm="pratique"')
            scoped = await ask(http, f"{here.url}/api/conversations", headers=bearer(url, scope="email"))
            assert scoped[0] == 403
            names = {
                (await ask(http, f"{replica.url}/api/session", headers=bearer(url)))[1]["principal_id"]
                for replica in (here, there)
            }
            assert len(names) == 1
            short = bearer(url, exp=time.time() + 1.5)
            async with http.ws_connect(f"{there.url}/api/ws", headers=short) as socket:
                assert (await socket.receive_json(timeout=5))["principal_id"] in names
                while (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
                    pass
                assert socket.close_code == 4401


async def test_a_key_that_is_revoked_or_rotated_away_ends_its_sockets_and_its_reply_goes_on(
    house: House, upstream: ScriptedUpstream
) -> None:
    upstream._pause_seconds = 0.06
    keyring = ApiKeyring(house.folder / "api-keys.json")
    revoked, rotated = (keyring.create(name) for name in ("revoked", "rotated"))
    here, there = await two(house, heartbeat_seconds=0.5)
    headers = [{"authorization": f"Bearer {text}"} for _, text in (revoked, rotated)]
    async with (
        aiohttp.ClientSession(headers=headers[0]) as one,
        aiohttp.ClientSession(headers=headers[1]) as other,
        one.ws_connect(f"{here.url}/api/ws") as listening,
        other.ws_connect(f"{there.url}/api/ws") as talking,
    ):
        frame = {"type": "message", "client_message_id": "message-0001", "text": "tell me a story"}
        await talking.send_json(frame)
        async with one.post(f"{there.url}/api/chat", json=frame, headers=SSE) as streaming:
            await streaming.content.readuntil(b"event: token")
            keyring.revoke(revoked[0].id)
            _, renewed = keyring.rotate(rotated[0].id, overlap_seconds=0)
            began = time.monotonic()
            with pytest.raises(aiohttp.ClientPayloadError):
                await asyncio.wait_for(streaming.read(), 5)
        ends = [await _end_of(socket) for socket in (listening, talking)]
        # One heartbeat, the second within which the file is looked at, and a busy machine.
        assert time.monotonic() - began < 4
        assert [code for code, _ in ends] == [4401, 4401]
        told = [event for _, events in ends for event in events]
        assert "ended" not in {event["type"] for event in told}
        [name] = {event["conversation_id"] for event in told if event["type"] == "accepted"}
        for headers_before in headers:
            assert (await ask(one, f"{here.url}/api/conversations", headers=headers_before))[0] == 401
        again = {"authorization": f"Bearer {renewed}"}
        async with asyncio.timeout(10):
            while True:
                status, found = await ask(one, f"{here.url}/api/conversations/{name}", headers=again)
                if status == 200 and found["turns"][-1]["role"] == "assistant":
                    break
                await asyncio.sleep(0.1)
        assert found["turns"][-1]["finish_reason"] == "stop"


async def _end_of(socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, list[dict[str, Any]]]:
    events = []
    while (received := await socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
        events.append(received.json())
    return socket.close_code, events


async def test_a_flood_gets_through_as_often_as_is_allowed_on_all_replicas_together(house: House) -> None:
    replicas = await two(house, access={"limits": {"requests_per_minute": 5}})
    client, other = await house.client(), await house.client()

    async def send(who: Any, number: int) -> int:
        body = {"client_message_id": f"message-{number:04}", "text": "hello", "max_tokens": 1}
        url = f"{replicas[number % 2].url}/api/chat"
        return (await ask(who.http, url, method="POST", json=body))[0]

    statuses = await asyncio.gather(*(send(client, number) for number in range(30)))
    assert sorted(statuses) == [200] * 5 + [429] * 25
    assert await send(other, 99) == 200


async def test_limits_go_on_on_each_replica_while_valkey_is_away(house: House) -> None:
    limits = {"requests_per_minute": 2, "store_timeout_seconds": 0.2}
    replica = await house.start("orchestrator-0", access={"limits": limits})
    client = await house.client()
    house.valkey.kill()
    statuses = []
    for number in range(3):
        body = {"client_message_id": f"message-{number:04}", "text": "hello"}
        async with (
            asyncio.timeout(5),
            client.http.post(f"{replica.url}/api/chat", json=body, headers={"accept": "text/event-stream"}) as response,
        ):
            statuses.append(response.status)
    assert statuses == [200, 200, 429]
    async with client.http.get(f"{replica.url}/metrics") as response:
        assert "pratique_access_limits_degraded 1.0" in await response.text()


async def test_what_a_dead_replica_had_reserved_ends_by_itself(house: House) -> None:
    here, there = await two(house, access={"limits": {"concurrent": 1, "reservation_seconds": 3}})
    client = await house.client()
    async with client.socket(here) as socket:
        await client.say(socket, "tell me a story", message_id="message-0001")
        await client.read(socket, until_seq=2)
        await here.kill()
    began, url = time.monotonic(), f"{there.url}/api/chat"
    body = {"client_message_id": "message-0002", "text": "hello"}
    assert (await ask(client.http, url, method="POST", json=body))[0] == 429
    async with asyncio.timeout(15):
        while (await ask(client.http, url, method="POST", json=body))[0] == 429:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.2)
    assert time.monotonic() - began > 1


async def test_the_record_of_a_process_is_complete_when_it_has_drained(house: House) -> None:
    replica = await house.start("orchestrator-0", access={"audit": {"sink": "file"}})
    client = await house.client()
    bad = {"authorization": "Basic eDp4"}
    for _ in range(200):
        assert (await ask(client.http, f"{replica.url}/api/conversations", headers=bad))[0] == 401
    assert await replica.stop() == 0
    records = [json.loads(line) for line in (house.folder / "audit.jsonl").read_text().splitlines()]
    assert [one["action"] for one in records] == ["access"] * 200 + ["replica.drain"]
    assert {one["remote"] for one in records[:200]} == {"127.0.0.1"}
