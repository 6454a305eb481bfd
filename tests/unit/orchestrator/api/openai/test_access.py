"""Limits, audit, cancellation on every route, deadlines, slow readers."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from openai import APIError, AsyncOpenAI, RateLimitError

from pratique.orchestrator.access.limits.interface import LimitExceededError, Reservation
from pratique.orchestrator.access.settings import AccessSettings, LimitsSettings
from pratique.orchestrator.api.openai.routes import ROUTES
from pratique.orchestrator.api.openai.settings import OpenAiSettings
from pratique.orchestrator.forward.http import HttpForwarder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pratique.orchestrator.access.audit import AuditEvent

pytestmark = pytest.mark.unit

Service = Any
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'


class Limiter:
    """Remembers, and refuses when told to."""

    def __init__(self) -> None:
        self.reserved: list[tuple[str, str, int]] = []
        self.settled: list[tuple[str, str, int | None]] = []
        self.refuses = False

    async def reserve(self, wanted: Reservation) -> bool:
        if self.refuses:
            raise LimitExceededError("Too many requests.", limit="requests", retry_after_seconds=7.5)
        self.reserved.append((wanted.principal.principal_id, wanted.holder, wanted.tokens))
        return True

    async def settle(self, taken: Reservation, *, tokens: int | None) -> None:
        self.settled.append((taken.principal.principal_id, taken.holder, tokens))


class Audit:
    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def aclose(self) -> None:
        """Nothing to close."""


class Model:
    """Says its words to each request, then nothing more, and notices who leaves."""

    def __init__(self, *said: bytes) -> None:
        self.said = said
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.num_left = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                for words in self.said:
                    writer.write(words)
        except (asyncio.IncompleteReadError, OSError):
            self.num_left += 1
        finally:
            writer.close()


@asynccontextmanager
async def before(service: Service, *said: bytes, **settings: Any) -> AsyncIterator[tuple[Model, Limiter, Audit]]:
    model, limiter, audit = Model(*said), Limiter(), Audit()
    async with await asyncio.start_server(model.serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        await service.start(
            inference_url=f"http://127.0.0.1:{port}", inference_status_urls=("model=http://127.0.0.1:9",), **settings
        )
        runtime = service.replica.runtime
        runtime.limiter, runtime.audit = limiter, audit
        yield model, limiter, audit


def answer(body: bytes, *headers: bytes) -> bytes:
    lines = (b"HTTP/1.1 200 OK", b"content-type: application/json", b"content-length: %d" % len(body), *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def key(service: Service, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {service.key}", **more}


async def until(condition: Callable[[], object], *, seconds: float = 3) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.005)


async def test_bodies_pass_byte_for_byte_and_usage_is_settled(service: Service) -> None:
    told = b'{"choices" : [],\n "usage":{"total_tokens": 17}, "x":"\xc3\xa4"}'
    asked = (
        b'{"messages":[ ],  "max_tokens":100,"tools":[{"type":"function"}],"response_format":{"type":"json_object"}}'
    )
    async with before(service, answer(told, b"x-own: 1", b"x-request-id: theirs")) as (model, limiter, _):
        headers = key(service, **{"content-type": "application/json", "x-request-id": "mine-1", "x-stainless-os": "2"})
        async with service.http.post("/v1/chat/completions?a=b", data=asked, headers=headers) as response:
            assert await response.read() == told
            assert response.headers["x-own"] == "1"
            assert response.headers.getall("x-request-id") == ["mine-1"]
            assert response.headers["x-pratique-lane"] == "baseline"
        (body,), (head,) = model.bodies, model.heads
        await until(lambda: limiter.settled)
    assert body == asked
    assert head.startswith(b"POST /v1/chat/completions?a=b HTTP/1.1\r\n")
    assert b"\r\nx-request-id: mine-1\r\n" in head
    assert b"\r\nx-stainless-os: 2\r\n" in head
    assert b"\r\nx-pratique-timeout-seconds: 10.000\r\n" in head
    (_, reserved_id, tokens), (principal_id, settled_id, used) = limiter.reserved[0], limiter.settled[0]
    assert (principal_id, settled_id, used) == ("key_test", reserved_id, 17)
    assert tokens == len(asked) // 4 + 100


async def test_headers_that_speak_to_proxies_and_pages_do_not_pass(service: Service) -> None:
    asked = (
        *("accept", "user-agent", "traceparent", "tracestate", "x-session-id"),
        *(
            "x-envoy-retry-on",
            "x-envoy-upstream-rq-timeout-ms",
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "via",
        ),
        *("x-real-ip", "x-http-method-override", "x-original-url", "referer", "connection"),
    )
    told = answer(b"{}", b"access-control-allow-origin: *", b"access-control-allow-credentials: true", b"x-own: 1")
    async with before(service, told) as (model, _, _):
        headers = key(service, origin=service.url, **dict.fromkeys(asked, "tracestate"))
        async with service.http.post("/v1/completions", data=b"{}", headers=headers) as response:
            assert response.status == 200
            assert response.headers["x-own"] == "1"
            assert not [name for name in response.headers if name.lower().startswith("access-control-")]
        lines = model.heads[0].decode().lower().split("\r\n")[1:]
    names = {line.partition(":")[0] for line in lines if line}
    given = {"accept", "content-type", "user-agent", "traceparent", "x-session-id"}
    ours = {"host", "accept-encoding", "content-length", "x-pratique-conversation", "x-pratique-timeout-seconds"}
    assert names == given | ours | {"x-request-id"}


async def test_request_without_an_id_gets_one(service: Service) -> None:
    async with before(service, answer(b"{}")) as (model, _, _):
        for given in ({}, {"x-request-id": 'bad "id"'}):
            async with service.http.get("/v1/models", headers=key(service, **given)) as response:
                made = response.headers["x-request-id"]
                assert made.startswith("req_")
                assert f"\r\nx-request-id: {made}\r\n".encode() in model.heads[-1]


async def test_limit_is_a_rate_limit_error_of_the_openai_package(service: Service) -> None:
    async with before(service, answer(b"{}")) as (model, limiter, audit):
        limiter.refuses = True
        async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.key, max_retries=0) as openai:
            with pytest.raises(RateLimitError) as refused:
                await openai.models.list()
        assert refused.value.response.headers["retry-after"] == "8"
        assert refused.value.code == "rate_limit_exceeded"
        assert (model.heads, limiter.settled) == ([], [])
        (event,) = audit.events
    assert (event.outcome, event.principal_id, event.subject) == ("refused", "key_test", "/v1/models")


async def test_refusals_are_recorded_without_the_key(service: Service) -> None:
    async with before(service) as (_, _, audit):
        async with service.http.get("/v1/models", headers={"authorization": "Bearer pk_bad"}) as response:
            assert response.status == 401
        headers = key(service, origin="https://evil.example")
        async with service.http.post("/v1/completions", json={}, headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (403, "origin_refused")
        details = [event.detail for event in audit.events]
    assert details == ["unauthenticated", "origin_refused"]
    assert "pk_bad" not in str(audit.events)


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/responses/resp_1/cancel", "/v1"])
async def test_internal_paths_are_not_there(service: Service, path: str) -> None:
    async with before(service, answer(b"{}")) as (model, limiter, _):
        async with service.http.post(path, json={}, headers=key(service)) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")
        async with service.http.delete("/v1/models", headers=key(service)) as response:
            assert (response.status, response.headers["allow"]) == (405, "GET")
        assert (model.heads, limiter.reserved) == ([], [])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", list(ROUTES))
async def test_client_that_leaves_ends_the_request_on_every_route(service: Service, path: str, stream: bool) -> None:
    said = (SSE, b"%x\r\n%b\r\n" % (len(EVENT), EVENT)) if stream else ()
    async with before(service, *said) as (model, limiter, _):
        body = None if ROUTES[path] == "GET" else {"stream": stream}
        asking = asyncio.ensure_future(service.http.request(ROUTES[path], path, json=body, headers=key(service)))
        await until(lambda: model.heads)
        if stream:
            response = await asking
            assert await response.content.readany() == EVENT
            response.close()
        else:
            await asyncio.sleep(0.05)
            asking.cancel()
        await until(lambda: model.num_left)
        await until(lambda: limiter.settled)
        assert len(model.heads) == 1
        # It was worked on, for how long is not known: what was reserved stays taken.
        assert stream or limiter.settled[0][2] is None


async def test_silent_model_is_a_timeout_in_openai_shape(service: Service) -> None:
    async with before(service, openai=OpenAiSettings(answer_timeout_seconds=0.2)) as (model, limiter, _):
        for body in ({"model": "m"}, {"stream": True}):
            headers = key(service, **({"x-pratique-timeout-seconds": "0.2"} if "stream" in body else {}))
            async with service.http.post("/v1/chat/completions", json=body, headers=headers) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"], error["type"]) == (504, "timeout", "server_error")
        await until(lambda: model.num_left == 2)
        assert [used for _, _, used in limiter.settled] == [None, None]


async def test_request_that_the_engine_gave_up_is_not_free(service: Service) -> None:
    async with before(service, answer(b"{}").replace(b"200 OK", b"504 x")) as (_, limiter, _):
        async with service.http.post("/v1/completions", json={}, headers=key(service)) as response:
            assert response.status == 504
        await until(lambda: limiter.settled)
        assert limiter.settled[0][2] is None


async def test_request_that_nobody_took_costs_nothing(service: Service) -> None:
    async with before(service) as (_, limiter, _):
        service.replica.runtime.forwarder = HttpForwarder("http://127.0.0.1:9", connect_timeout_seconds=1)
        async with service.http.post("/v1/completions", json={}, headers=key(service)) as response:
            assert response.status == 503
        await until(lambda: limiter.settled)
        assert limiter.settled[0][2] == 0


async def test_first_byte_of_a_stream_has_its_own_deadline(service: Service) -> None:
    async with (
        before(service, SSE, first_token_timeout_seconds=0.2) as (model, _, _),
        service.http.post("/v1/completions", json={"stream": True}, headers=key(service)) as response,
    ):
        # Its head is there, its first byte is not.
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await response.content.read()
        await until(lambda: model.num_left)


async def test_stream_that_falls_silent_says_so_and_breaks_off(service: Service) -> None:
    words = SSE + b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    async with (
        before(service, words, inter_token_timeout_seconds=0.2) as (model, limiter, _),
        AsyncOpenAI(base_url=f"{service.url}/v1", api_key=service.key, max_retries=0) as openai,
    ):
        stream = await openai.chat.completions.create(model="m", messages=[], stream=True)
        with pytest.raises(APIError, match="did not answer in time"):
            async for _ in stream:
                pass
        await until(lambda: model.num_left)
        await until(lambda: limiter.settled)
    assert limiter.settled[0][2] == limiter.reserved[0][2] - 512 + 1


@pytest.mark.parametrize("given", ["0", "-1", "nan", "soon"])
async def test_bad_deadline_is_refused(service: Service, given: str) -> None:
    async with before(service, answer(b"{}")) as (model, _, _):
        headers = key(service, **{"x-pratique-timeout-seconds": given})
        async with service.http.post("/v1/completions", json={}, headers=headers) as response:
            assert (response.status, (await response.json())["error"]["type"]) == (400, "invalid_request_error")
        assert not model.heads


async def test_reader_that_reads_nothing_is_cut_and_ends_the_request(service: Service) -> None:
    piece = b"%x\r\n%b\r\n" % (65536, b"x" * 65536)
    async with before(service, SSE, *[piece] * 400, heartbeat_seconds=0.1) as (model, limiter, _):
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        body = json.dumps({"stream": True}).encode()
        writer.write(
            f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.key}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await until(lambda: model.num_left)
        await until(lambda: limiter.settled)
        writer.transport.abort()
        del reader


async def test_request_whose_body_never_ends_holds_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.orchestrator.api.openai.relay._BODY_SECONDS", 0.1)
    async with before(service, answer(b"{}")) as (model, limiter, _):

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(0.5)
            yield b"}"

        async with service.http.post("/v1/completions", data=slow(), headers=key(service)) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (504, "timeout")
        assert (model.heads, limiter.reserved) == ([], [])


async def pieces(*, seconds: float = 0.3) -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(seconds)
    yield b"}"


async def test_bodies_that_are_still_coming_are_limited_by_principal(service: Service) -> None:
    limits = LimitsSettings(connections=1)
    async with before(service, answer(b"{}"), access=AccessSettings(limits=limits)) as (_, limiter, _):
        first = asyncio.ensure_future(service.http.post("/v1/completions", data=pieces(), headers=key(service)))
        await asyncio.sleep(0.1)
        async with service.http.post("/v1/completions", data=pieces(), headers=key(service)) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (429, "rate_limit_exceeded")
        # One that comes in one piece is not waited for.
        async with service.http.post("/v1/completions", data=b"{}", headers=key(service)) as response:
            assert response.status == 200
        assert (await first).status == 200
        (await first).close()
        async with service.http.post("/v1/completions", data=pieces(seconds=0), headers=key(service)) as response:
            assert response.status == 200
        assert len(limiter.reserved) == 3


async def test_bodies_are_limited_together_and_given_back(service: Service) -> None:
    body = b'{"x": "' + b"x" * 900 + b'"}'
    settings = OpenAiSettings(max_body_bytes=1024, max_held_bytes=1024)
    async with before(service, answer(b"{}"), openai=settings) as (_, _, _):
        for _ in range(3):
            async with service.http.post("/v1/completions", data=body, headers=key(service)) as response:
                assert response.status == 200
        first = asyncio.ensure_future(service.http.post("/v1/completions", data=pieces(), headers=key(service)))
        await asyncio.sleep(0.1)
        async with service.http.post("/v1/completions", data=b"x" * 1024, headers=key(service)) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "overloaded")
        assert (await first).status == 200
        (await first).close()
        async with service.http.post("/v1/completions", data=body, headers=key(service)) as response:
            assert response.status == 200


async def test_fault_of_ours_is_a_server_error_in_openai_shape(service: Service) -> None:
    async with before(service, answer(b"{}")) as (_, limiter, _):
        service.replica.runtime.forwarder = None
        async with service.http.get("/v1/models", headers=key(service)) as response:
            assert (response.status, (await response.json())["error"]["type"]) == (500, "server_error")
        assert [used for _, _, used in limiter.settled] == [0]
