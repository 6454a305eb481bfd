"""The shim over a scripted model server on the loopback address: every way in which a call ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from botocore.eventstream import EventStreamBuffer
from starlette.types import Send

from pratique.inference.listener import listen
from pratique.inference.sagemaker.endpoints import parse_endpoints
from pratique.inference.sagemaker.run import open_session
from pratique.inference.sagemaker.settings import SageMakerSettings
from pratique.inference.sagemaker.shim import SageMakerShim

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Answer, Caller

pytestmark = pytest.mark.unit

INVOKE = "/endpoints/chat/invocations"
STREAM = "/endpoints/chat/invocations-response-stream"
SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=a"}
Act = Callable[[Send], Awaitable[None]]


@dataclass
class Model:
    """A model server that does what a test tells it, and remembers what it was asked."""

    act: Act | None = None
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.asked.append((first.split()[1], headers, await reader.readexactly(int(headers["content-length"]))))

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                raw = b"".join(b"%s: %s\r\n" % pair for pair in message["headers"])
                writer.write(b"HTTP/1.1 %d OK\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (message["status"], raw))
                return
            if message["body"]:
                writer.write(b"%x\r\n%s\r\n" % (len(message["body"]), message["body"]))
            if not message.get("more_body"):
                writer.write(b"0\r\n\r\n")
            await writer.drain()

        assert self.act is not None
        acting = asyncio.ensure_future(self.act(send))
        leaving = asyncio.create_task(reader.read())
        await asyncio.wait({acting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not acting.done():
            self.left.set()
        for task in (acting, leaving):
            task.cancel()
        await asyncio.gather(acting, leaving, return_exceptions=True)
        writer.close()


def answers(body: bytes, status: int = 200, **headers: str) -> Act:
    async def act(send: Send) -> None:
        await begin(send, status, **headers)
        await send({"type": "http.response.body", "body": body})

    return act


async def begin(send: Send, status: int = 200, **headers: str) -> None:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def say(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})


async def hang(send: Send) -> None:
    await asyncio.Event().wait()


async def hang_midway(send: Send) -> None:
    await begin(send)
    await say(send, b"data: one\n\n")
    await asyncio.Event().wait()


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    scripted = Model()
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield scripted


@pytest.fixture
async def shim(model: Model) -> AsyncIterator[Callable[..., SageMakerShim]]:
    async with open_session() as session:

        def make(*specs: str, **changes: Any) -> SageMakerShim:
            endpoints = parse_endpoints(specs or [f"chat={model.url}"])
            return SageMakerShim(endpoints, SageMakerSettings(**changes), session=session)

        yield make


@pytest.fixture
def call(shim: Callable[..., SageMakerShim], caller: type[Caller]) -> Callable[..., Awaitable[Answer]]:
    async def send(
        path: str = INVOKE, body: bytes = b"{}", *, to: SageMakerShim | None = None, **headers: str
    ) -> Answer:
        return await caller(to or shim())("POST", path, body, **(SIGNED | headers))

    return send


Call = Callable[..., Awaitable["Answer"]]
Make = Callable[..., SageMakerShim]


def parts(answer: Answer) -> tuple[bytes, list[dict[str, Any]]]:
    """Joined payloads, and the exceptions behind them."""
    buffer: Any = EventStreamBuffer()  # its stubs have headers as numbers
    buffer.add_data(answer.body)
    payload, exceptions = b"", []
    for message in buffer:
        if message.headers[":message-type"] == "event":
            payload += message.payload
        else:
            exceptions.append({"kind": message.headers[":exception-type"], **json.loads(message.payload)})
    return payload, exceptions


async def test_a_whole_answer_passes_untouched(model: Model, call: Call) -> None:
    model.act = answers(
        "日本語".encode(), 201, content_type="text/plain", x_amzn_sagemaker_custom_attributes="日", x_b="c"
    )
    answer = await call(body=b"\x00\xff", content_type="application/x-any", x_amzn_sagemaker_custom_attributes="in")
    assert (answer.status, answer.body.decode()) == (200, "日本語")
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-Amzn-Invoked-Production-Variant"] == "AllTraffic"
    assert answer.headers["X-Amzn-SageMaker-Custom-Attributes"] == "日"
    assert "x-b" not in answer.headers
    [(path, headers, body)] = model.asked
    assert (path, body) == ("/invocations", b"\x00\xff")
    assert headers["content-type"] == "application/x-any"
    assert headers["x-amzn-sagemaker-custom-attributes"] == "in"
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


async def test_a_streamed_answer_is_the_models_bytes_in_parts(model: Model, call: Call) -> None:
    pieces = [bytes([piece]) * (piece * 1000 + 1) for piece in range(20)]

    async def act(send: Send) -> None:
        await begin(send, content_type="text/event-stream")
        for piece in pieces:
            await say(send, piece)
        await say(send, b"")
        await send({"type": "http.response.body", "body": b"end"})

    model.act = act
    answer = await call(STREAM, x_amzn_sagemaker_accept="text/event-stream")
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    assert answer.headers["X-Amzn-SageMaker-Content-Type"] == "text/event-stream"
    assert answer.headers["x-Amzn-Invoked-Production-Variant"] == "AllTraffic"
    assert parts(answer) == (b"".join(pieces) + b"end", [])
    assert answer.is_complete


@pytest.mark.parametrize("path", [INVOKE, STREAM])
@pytest.mark.parametrize("status", [302, 400, 413, 500, 503])
async def test_the_models_error_is_a_model_error(model: Model, call: Call, path: str, status: int) -> None:
    model.act = answers("だめ".encode() * 20_000, status, location="http://127.0.0.1:1/")
    answer = await call(path)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (424, "ModelError")
    assert answer.json()["OriginalStatusCode"] == status
    assert answer.json()["OriginalMessage"].startswith("だめだめ")
    assert model.url in answer.json()["Message"]
    assert len(model.asked) == 1


@pytest.mark.parametrize("path", [INVOKE, STREAM])
async def test_a_model_server_that_is_away_is_service_unavailable(shim: Make, call: Call, path: str) -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    answer = await call(path, to=shim(f"chat=http://127.0.0.1:{port}"))
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailable")
    assert str(port) in answer.json()["Message"]


@pytest.mark.parametrize(("path", "limit"), [(INVOKE, "timeout_seconds"), (STREAM, "stream_timeout_seconds")])
async def test_a_model_that_does_not_answer_is_given_up(
    model: Model, shim: Make, call: Call, path: str, limit: str
) -> None:
    model.act = hang
    answer = await call(path, to=shim(**{limit: 0.05}))
    assert (answer.status, answer.json()["OriginalStatusCode"]) == (424, 0)
    assert "timed out" in answer.json()["OriginalMessage"]
    async with asyncio.timeout(5):
        await model.left.wait()


async def test_a_stream_past_its_time_ends_with_the_modelled_error(model: Model, shim: Make, call: Call) -> None:
    model.act = hang_midway
    answer = await call(STREAM, to=shim(stream_timeout_seconds=0.1))
    payload, [exception] = parts(answer)
    assert payload == b"data: one\n\n"
    assert (exception["kind"], exception["ErrorCode"]) == ("ModelStreamError", "ModelInvocationTimeExceeded")
    async with asyncio.timeout(5):
        await model.left.wait()


@contextlib.asynccontextmanager
async def breaking(raw: bytes) -> AsyncIterator[str]:
    """A server that sends these bytes and closes, whatever it is asked."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(act, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


async def test_a_stream_that_breaks_ends_with_the_modelled_error(shim: Make, call: Call) -> None:
    async with breaking(CHUNKED) as url:
        answer = await call(STREAM, to=shim(f"chat={url}"))
    payload, [exception] = parts(answer)
    assert payload == b"hello"
    assert (exception["kind"], exception["ErrorCode"]) == ("ModelStreamError", "StreamBroken")


@pytest.mark.parametrize(
    "raw", [b"", b"SSH-2.0-hello\r\n", CHUNKED, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell"]
)
async def test_an_answer_that_breaks_is_a_model_error(shim: Make, call: Call, raw: bytes) -> None:
    async with breaking(raw) as url:
        answer = await call(to=shim(f"chat={url}"))
    assert (answer.status, answer.json()["OriginalStatusCode"]) == (424, 0)


async def test_what_nobody_foresaw_is_an_internal_failure(shim: Make, call: Call) -> None:
    broken = shim()
    broken._session = None  # type: ignore[assignment]  # the fault is the point
    answer = await call(to=broken)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (500, "InternalFailure")


async def test_what_nobody_foresaw_in_a_stream_is_an_internal_stream_failure(
    model: Model, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: bytes) -> bytes:
        raise ValueError("broken")

    model.act = answers(b"hello")
    monkeypatch.setattr("pratique.inference.sagemaker.shim.encode_part", fail)
    payload, [exception] = parts(await call(STREAM))
    assert (payload, exception["kind"]) == (b"", "InternalStreamFailure")


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_refused(model: Model, shim: Make, call: Call, announced: bool) -> None:
    length = {"content_length": "2000"} if announced else {}
    answer = await call(body=b"x" * 2000, to=shim(max_body_bytes=1024), **length)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationError")
    assert "less than or equal to 1024" in answer.json()["Message"]
    assert model.asked == []


async def test_an_answer_over_the_limit_is_a_model_error(model: Model, shim: Make, call: Call) -> None:
    model.act = answers(b"x" * 2000)
    answer = await call(to=shim(max_response_bytes=1024))
    assert (answer.status, answer.json()["OriginalStatusCode"]) == (424, 200)
    assert "1024" in answer.json()["OriginalMessage"]
    model.act = answers(b"x" * 1024)
    assert (await call(to=shim(max_response_bytes=1024))).status == 200


@pytest.mark.parametrize("case", [(INVOKE, hang), (STREAM, hang), (STREAM, hang_midway)])
async def test_a_client_that_leaves_aborts_the_request_at_the_model(
    model: Model, shim: Make, caller: type[Caller], answer: Callable[[], Answer], case: tuple[str, Act]
) -> None:
    path, model.act = case
    made, reply = shim(), answer()
    calling = asyncio.create_task(caller(made).into(reply, "POST", path, b"{}", **SIGNED))
    async with asyncio.timeout(5):
        while not model.asked:  # noqa: ASYNC110 - a scripted server tells nobody
            await asyncio.sleep(0.001)
        assert made.num_in_flight == 1
        reply.leave.set()
        await calling
        await model.left.wait()
    assert made.num_in_flight == 0


async def test_a_slow_reader_holds_the_model_back(model: Model, shim: Make) -> None:
    sent = 0

    async def act(send: Send) -> None:
        nonlocal sent
        await begin(send)
        for _ in range(400):
            await say(send, b"x" * 65_536)
            sent += 65_536
        await send({"type": "http.response.body", "body": b""})

    model.act = act
    taken: list[int] = []
    go = asyncio.Event()

    async def send(message: Any) -> None:
        taken.append(len(message.get("body", b"")))
        if len(taken) == 2:
            await go.wait()

    requests = [{"type": "http.request", "body": b"{}"}]

    async def receive() -> Any:
        if requests:
            return requests.pop()
        return await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": STREAM, "headers": [(b"authorization", b"AWS4-x")]}
    calling = asyncio.create_task(shim()(scope, receive, send))
    async with asyncio.timeout(10):
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.05)
        # What the sockets' and aiohttp's buffers hold, not the 26 MB that there are.
        assert sent < 16_000_000
        go.set()
        await calling
    assert sent == 400 * 65_536
    assert sum(taken) > sent


async def test_a_client_that_never_reads_again_is_given_up(
    model: Model, shim: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pratique.inference.sagemaker.shim._LAST_WORDS_SECONDS", 0.05)
    model.act = hang_midway

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    requests = [{"type": "http.request", "body": b"{}"}]

    async def receive() -> Any:
        return requests.pop() if requests else await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": STREAM, "headers": [(b"authorization", b"AWS4-x")]}
    async with asyncio.timeout(5):
        await shim(stream_timeout_seconds=0.1)(scope, receive, send)
        await model.left.wait()


async def test_a_client_that_leaves_while_it_sends_is_nobody_to_answer(shim: Make) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INVOKE, "headers": [(b"authorization", b"AWS4-x")]}
    await shim()(scope, receive, send)
    assert sent == []


async def test_a_client_that_never_sends_its_body_is_given_up(shim: Make) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INVOKE, "headers": [(b"authorization", b"AWS4-x")]}
    await shim(timeout_seconds=0.02)(scope, receive, send)
    assert sent[0]["status"] == 408
    assert b"RequestTimeoutException" in dict(sent[0]["headers"]).values()


async def test_a_drain_does_not_wait_for_ever(model: Model, shim: Make, call: Call) -> None:
    model.act = hang
    made = shim(timeout_seconds=0.3)
    running = asyncio.ensure_future(call(to=made))
    while not model.asked:  # noqa: ASYNC110 - a scripted server tells nobody
        await asyncio.sleep(0.001)
    await made.drain(0.01)
    assert made.num_in_flight == 1
    await running


async def test_one_call_too_many_is_service_unavailable(model: Model, shim: Make, call: Call) -> None:
    model.act = hang
    made = shim(max_in_flight=1, timeout_seconds=0.2)
    first = asyncio.ensure_future(call(to=made))
    while not model.asked:  # noqa: ASYNC110 - a scripted server tells nobody
        await asyncio.sleep(0.001)
    second = await call(to=made)
    assert (second.status, second.headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailable")
    assert (await first).status == 424
    model.act = answers(b"ok")
    assert (await call(to=made)).status == 200


async def test_a_drain_lets_calls_finish_and_takes_no_new_ones(model: Model, shim: Make, call: Call) -> None:
    go = asyncio.Event()

    async def act(send: Send) -> None:
        await go.wait()
        await answers(b"done")(send)

    model.act = act
    made = shim()
    running = asyncio.ensure_future(call(to=made))
    while not model.asked:  # noqa: ASYNC110 - a scripted server tells nobody
        await asyncio.sleep(0.001)
    draining = asyncio.create_task(made.drain(5))
    await asyncio.sleep(0)
    assert (await call(to=made)).status == 503
    go.set()
    await draining
    assert (await running).body == b"done"
    await made.drain(5)


async def test_variants_share_calls_and_can_be_named(model: Model, shim: Make, call: Call) -> None:
    model.act = answers(b"ok")
    made = shim(f"chat/blue:2={model.url}", f"chat/green:1={model.url}")
    name = "x-Amzn-Invoked-Production-Variant"
    assert [(await call(to=made)).headers[name] for _ in range(3)] == ["blue", "green", "blue"]
    named = await call(to=made, x_amzn_sagemaker_target_variant="green")
    assert named.headers[name] == "green"


async def test_a_target_model_reaches_the_body(model: Model, call: Call) -> None:
    model.act = answers(b"ok")
    await call(body=b'{"query":"q"}', x_amzn_sagemaker_target_model="other")
    assert model.asked[0][2] == b'{"query":"q","model":"other"}'


async def test_it_tells_that_it_lives(shim: Make, caller: type[Caller]) -> None:
    answer = await caller(shim())("GET", "/ping")
    assert (answer.status, answer.json()) == (200, {"endpoints": ["chat"]})


async def test_websockets_are_closed(shim: Make) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await shim()({"type": "websocket"}, send, send)  # type: ignore[arg-type]  # nothing is received
    assert sent == [{"type": "websocket.close", "code": 1008}]
