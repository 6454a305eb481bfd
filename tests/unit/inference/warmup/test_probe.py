"""Timing a server from outside, over real HTTP to a small server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from pratique.core.clock import SystemClock
from pratique.core.errors import PratiqueError
from pratique.inference.errors import NotReadyError, UnknownModelError, WarmupManifestError
from pratique.inference.warmup.manifest import ShapeEntry, WarmupManifest
from pratique.inference.warmup.probe import Measured, ProbeError, ProbeOptions, Timing, WordRate, probe
from pratique.inference.warmup.shapes import Shape

pytestmark = pytest.mark.unit

TEMPLATE_TOKENS = 30
CARDS: list[dict[str, Any]] = [
    {"id": "small", "max_model_len": 512, "parent": None, "object": "model"},
    {"id": "sales", "parent": "small"},
]


class Server:
    """Speaks /v1/models and /invocations; two tokens a word."""

    def __init__(self) -> None:
        self.cards: list[dict[str, Any]] = CARDS
        self.bodies: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.seconds = [0.0]
        self.extra_tokens: list[int] = []
        self.url = ""

    async def models(self, _: web.Request) -> web.StreamResponse:
        status, body = self.answers.get("models", (200, msgspec.json.encode({"data": self.cards})))
        return web.Response(status=status, body=body)

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        extra = self.extra_tokens[len(self.bodies)] if len(self.bodies) < len(self.extra_tokens) else 0
        prompt_tokens = TEMPLATE_TOKENS + 2 * len(body["query"].split()) + extra
        if prompt_tokens + body["max_tokens"] > 512:
            return web.Response(status=400, body=b'{"error": {"code": "context_length_exceeded"}}')
        self.bodies.append({**body, "prompt_tokens": prompt_tokens})
        if "invocations" in self.answers:
            status, raw = self.answers["invocations"]
            return web.Response(status=status, body=raw)
        await asyncio.sleep(self.seconds[min(len(self.bodies), len(self.seconds)) - 1])
        end = {"prompt_tokens": prompt_tokens, "completion_tokens": body["max_tokens"], "finish_reason": "length"}
        raw = b'event: start\ndata: {}\n\nevent: token\ndata: {"text": "x"}\n\nevent: end\ndata: %s\n\n'
        return web.Response(body=raw % msgspec.json.encode(end))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application()
    app.add_routes([web.get("/at/v1/models", served.models), web.post("/at/invocations", served.invoke)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        served.url = f"http://{host}:{port}/at/"
        yield served
    finally:
        await runner.cleanup()


async def measure(server: Server, manifest: WarmupManifest | None = None, repeats: int = 2) -> tuple[Measured, ...]:
    options = ProbeOptions(manifest=manifest, num_repeats=repeats, timeout_seconds=5)
    return await probe(server.url, options, clock=SystemClock())


def manifest_of(*entries: ShapeEntry, **fields: Any) -> WarmupManifest:
    return WarmupManifest(schema_version=1, shapes=entries, **fields)


SHORT = ShapeEntry(name="short", prompt_tokens=10)
LONG = ShapeEntry(name="long", prompt_tokens=100, adapter="sales")


async def test_each_shape_is_sent_once_and_repeated_with_other_texts(server: Server) -> None:
    measured = await measure(server, manifest_of(SHORT, LONG, model="small"))
    assert [(one.name, one.adapter, len(one.rest)) for one in measured] == [
        ("short", None, 2),
        ("long", "sales", 2),
        ("catch-all", None, 2),
    ]
    queries = [body["query"] for body in server.bodies]
    assert len({query.split()[0:3].__repr__() for query in queries}) == len(queries) == 9
    assert {body.get("adapter") for body in server.bodies[3:6]} == {"sales"}
    assert {body["model"] for body in server.bodies} == {"small"}
    assert all(body["stream"] for body in server.bodies)


async def test_without_a_manifest_the_built_in_shapes_go_to_the_adapters_there_are(server: Server) -> None:
    measured = await measure(server, repeats=1)
    assert [one.name for one in measured] == ["short", "medium", "long", "adapter-1", "catch-all"]
    assert "model" not in server.bodies[0]
    assert server.bodies[-1]["prompt_tokens"] in {507, 508}  # two tokens a word: an odd one is left


async def test_a_text_too_long_is_made_shorter_until_it_fits(server: Server) -> None:
    # Two tokens a word, which nobody knows before the first request; 239 words are the most that fit.
    (one,) = await measure(server, manifest_of(ShapeEntry(name="long", prompt_tokens=242), catch_all=False))
    assert one.first.prompt_tokens == 508
    with pytest.raises(ProbeError, match="'long' is too long for the server, also with half"):
        await measure(server, manifest_of(ShapeEntry(name="long", prompt_tokens=500), catch_all=False))


async def test_a_later_text_that_costs_a_token_more_is_made_shorter_too(server: Server) -> None:
    server.extra_tokens = [0, 0, 0, 0, 0, 0, 0, 3]
    (*_, catch_all) = await measure(server, manifest_of(SHORT, LONG))
    assert catch_all.first.prompt_tokens == 508
    assert catch_all.rest[0].prompt_tokens <= 508


async def test_a_cold_first_request_shows_in_the_ratio(server: Server) -> None:
    server.seconds = [0.06, 0.0]
    (one,) = await measure(server, manifest_of(SHORT, catch_all=False), repeats=3)
    assert one.first.first_token_seconds >= 0.06
    assert one.ratio > 2


def test_the_ratio_is_first_against_the_median_of_the_rest() -> None:
    def timing(seconds: float) -> Timing:
        return Timing(prompt_tokens=1, completion_tokens=1, first_token_seconds=seconds, total_seconds=seconds)

    one = Measured(name="a", adapter=None, first=timing(0.3), rest=tuple(map(timing, (0.1, 0.2, 5.0))))
    assert one.steady_seconds == 0.2
    assert one.ratio == pytest.approx(1.5)


def test_how_many_words_make_a_prompt_is_learnt() -> None:
    rate = WordRate()
    shape = Shape(name="a", prompt_tokens=100, output_tokens=1)
    whole = Shape(name="b", prompt_tokens=1000, output_tokens=1, fills_context=True)
    assert (rate.words_for(shape), rate.words_for(whole)) == (100, 1000)
    rate.learn(10, 40)
    assert (rate.words_for(shape), rate.words_for(whole)) == (100, 970)
    rate.learn(100, 220)
    assert (rate.words_for(shape), rate.words_for(whole)) == (50, 490)
    rate.learn(100, 9999)
    assert rate.words_for(shape) == 50


@pytest.mark.parametrize(
    ("name", "answer", "error", "message"),
    [
        ("models", (503, b'{"error": "loading"}'), NotReadyError, "takes no traffic .503.: .*loading"),
        ("models", (404, b"nothing here"), ProbeError, "GET /v1/models got 404: nothing here"),
        ("models", (200, b"<html>"), ProbeError, "No whole answer came"),
        ("models", (200, b'{"data": [{"id": "m"}]}'), ProbeError, "no model with its max_model_len; it names: m"),
        ("models", (200, b'{"data": []}'), ProbeError, "it names: none"),
        ("invocations", (503, b"draining"), NotReadyError, "'short': the server takes no traffic"),
        ("invocations", (500, b"\xff" * 9999), ProbeError, "'short' got 500"),
        (
            "invocations",
            (200, b'event: error\ndata: {"code": "engine_dead"}\n\n'),
            ProbeError,
            "'short' failed: .*engine_dead",
        ),
        ("invocations", (200, b""), ProbeError, "without an end event"),
        ("invocations", (200, b"event: end\ndata: {}\n\n"), ProbeError, "No whole answer came"),
    ],
)
async def test_what_a_server_answers_otherwise_is_told(
    server: Server, name: str, answer: tuple[int, bytes], error: type[PratiqueError], message: str
) -> None:
    server.answers[name] = answer
    with pytest.raises(error, match=message) as caught:
        await measure(server)
    assert len(caught.value.message) < 600


async def test_a_manifest_for_another_model_is_refused_before_anything_is_sent(server: Server) -> None:
    with pytest.raises(UnknownModelError, match="for the model 'big'; served there: small, sales"):
        await measure(server, manifest_of(SHORT, model="big"))
    with pytest.raises(WarmupManifestError, match="takes 512"):
        await measure(server, manifest_of(ShapeEntry(name="a", prompt_tokens=600)))
    assert server.bodies == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9", "not reachable"),
        ("127.0.0.1:9", "no address|No whole answer"),
        ("/x", "no address of a server"),
        ("ftp://127.0.0.1/", "No whole answer"),
    ],
)
async def test_an_address_where_nothing_answers_is_told(url: str, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        await probe(url, ProbeOptions(), clock=SystemClock())


async def test_a_request_has_a_deadline(server: Server) -> None:
    server.seconds = [0.2]
    options = ProbeOptions(manifest=manifest_of(SHORT), timeout_seconds=0.05)
    with pytest.raises(ProbeError, match=r"No whole answer came .shape 'short'.: TimeoutError"):
        await probe(server.url, options, clock=SystemClock())
