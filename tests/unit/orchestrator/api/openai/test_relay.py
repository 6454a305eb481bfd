"""The OpenAI API: keys, streaming, failures in OpenAI's shape."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from openai import AsyncOpenAI, AuthenticationError, InternalServerError, NotFoundError
from yarl import URL

from pratique.orchestrator.api.openai.settings import OpenAiSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.unit

Service = Any


def client(service: Service, *, key: str | None = None) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{service.url}/v1", api_key=key or service.key, max_retries=0)


async def test_lists_models_and_streams_a_chat(service: Service) -> None:
    await service.start()
    async with client(service) as openai:
        assert [model.id async for model in openai.models.list()] == ["scripted"]
        stream = await openai.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "hi"}], stream=True, max_tokens=3
        )
        pieces = [chunk.choices[0].delta.content async for chunk in stream]
    assert pieces == ["word-0 ", "word-1 ", "word-2 "]


async def test_credentials_stay_here_and_one_client_prefers_one_server(service: Service) -> None:
    await service.start()
    async with client(service) as openai:
        await openai.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            extra_headers={"cookie": "pratique_session=x", "connection": "close"},
        )
    seen = service.model.headers_seen[-1]
    assert not {"authorization", "cookie"} & set(seen)
    assert seen["x-pratique-conversation"] == "key_test"
    assert seen["accept-encoding"] == "identity"


async def test_chunks_are_not_held_back(service: Service) -> None:
    await service.start()
    body = {"model": "scripted", "messages": [], "stream": True, "max_tokens": 50}
    headers = {"authorization": f"Bearer {service.key}"}
    async with service.http.post("/v1/chat/completions", json=body, headers=headers) as response:
        async with asyncio.timeout(0.5):
            assert b"word-0" in await response.content.readany()
        assert service.model.num_open == 1


async def test_client_that_leaves_cancels_upstream(service: Service) -> None:
    await service.start()
    body = {"model": "scripted", "messages": [], "stream": True, "max_tokens": 1000}
    headers = {"authorization": f"Bearer {service.key}"}
    async with service.http.post("/v1/chat/completions", json=body, headers=headers) as response:
        await response.content.readany()
    async with asyncio.timeout(2):
        while service.model.num_open:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.01)


async def test_bad_model_name_is_the_servers_own_clean_error(service: Service) -> None:
    await service.start()
    async with client(service) as openai:
        with pytest.raises(NotFoundError, match="does not exist"):
            await openai.chat.completions.create(model="nope", messages=[{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("key", ["pk_wrong" + "x" * 40, "sk-else"])
async def test_without_a_good_key_nothing_is_relayed(service: Service, key: str) -> None:
    await service.start()
    async with client(service, key=key) as openai:
        with pytest.raises(AuthenticationError) as refused:
            await openai.models.list()
    assert refused.value.code == "invalid_api_key"
    async with service.http.get("/v1/models") as response:
        # A session cookie is not a key.
        assert response.status == 401


async def test_client_does_not_choose_the_server(service: Service) -> None:
    heads: list[bytes] = []

    async def model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
        writer.write(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(model, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        # The model's state is asked for elsewhere.
        await service.start(
            inference_url=f"http://127.0.0.1:{port}", inference_status_urls=("model=http://127.0.0.1:9",)
        )
        headers = {"authorization": f"Bearer {service.key}", "x-pratique-conversation": "mine"}
        async with service.http.get("/v1/models", headers=headers) as response:
            assert response.status == 204
    (head,) = heads
    assert head.count(b"x-pratique-conversation: ") == 1
    assert b"x-pratique-conversation: key_test" in head


@pytest.mark.parametrize("has_key", [True, False])
async def test_websocket_handshake_is_refused(service: Service, has_key: bool) -> None:
    await service.start()
    headers = {"authorization": f"Bearer {service.key}"} if has_key else {}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with service.http.ws_connect("/v1/realtime", headers=headers):
            pass
    assert refused.value.status == 403


async def test_nobody_upstream_is_a_clean_503(service: Service) -> None:
    await service.start(inference_url="http://127.0.0.1:9")
    async with client(service) as openai:
        with pytest.raises(InternalServerError) as refused:
            await openai.models.list()
    assert refused.value.status_code == 503
    assert refused.value.code == "model_unavailable"
    assert refused.value.response.headers["retry-after"] == "2"


async def test_edge_without_servers_is_the_same(service: Service) -> None:
    async def edge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"no healthy upstream"
        writer.write(b"HTTP/1.1 503 x\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(edge, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await service.start(inference_url=f"http://127.0.0.1:{port}")
        async with client(service) as openai:
            with pytest.raises(InternalServerError) as refused:
                await openai.models.list()
    assert refused.value.code == "model_unavailable"


async def test_server_that_breaks_off_breaks_off_here(service: Service) -> None:
    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
        )
        await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(dying, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await service.start(inference_url=f"http://127.0.0.1:{port}")
        headers = {"authorization": f"Bearer {service.key}"}
        with pytest.raises(aiohttp.ClientError):
            async with service.http.get("/v1/models", headers=headers) as response:
                await response.read()


async def test_too_large_a_body_and_paths_that_climb(service: Service) -> None:
    await service.start(openai=OpenAiSettings(max_body_bytes=1024))
    headers = {"authorization": f"Bearer {service.key}"}

    async def undeclared() -> AsyncIterator[bytes]:
        yield b"x" * 1025

    for data in (b"x" * 1025, undeclared()):
        async with service.http.post("/v1/chat/completions", data=data, headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (413, "too_large")
    url = URL(f"{service.url}/v1/../invocations", encoded=True)
    async with service.http.get(url, headers=headers) as response:
        assert response.status in {401, 404}


async def test_keys_that_cannot_be_read_let_nobody_in(service: Service) -> None:
    await service.start()
    (service.folder / "api-keys.json").write_text("{")
    headers = {"authorization": f"Bearer {service.key}"}
    async with service.http.get("/v1/models", headers=headers) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "keys_unavailable")
