"""The warmup itself: what counts as warm, and every way in which a shape is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from pratique.core.clock import ManualClock
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import WarmupError, WarmupTimeoutError
from pratique.inference.warmup.run import WarmupSummary, warm_up
from pratique.inference.warmup.shapes import Shape

pytestmark = pytest.mark.unit

TEMPLATE_TOKENS = 8
SHORT = Shape(name="short", prompt_tokens=10, output_tokens=4)
LONG = Shape(name="long", prompt_tokens=50, output_tokens=2)
ADAPTED = Shape(name="adapter-1", prompt_tokens=20, output_tokens=1, adapter="sales")
CATCH_ALL = Shape(name="catch-all", prompt_tokens=124, output_tokens=4, fills_context=True)


class Engine:
    """What the warmup uses of an engine; a word is a token."""

    model = "small"

    def __init__(self) -> None:
        self.said: list[str] = []
        self.hangs = False

    def count(self, text: str) -> int:
        return len(text.split())

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "", tools: str = "") -> list[int]:
        return [0] * (TEMPLATE_TOKENS + self.count(messages[0].content))

    async def reset_prefix_cache(self) -> None:
        self.said.append("reset")
        if self.hangs:
            raise TimeoutError


class App:
    """Answers /invocations as the server does, or as a test wants it."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock
        self.bodies: list[dict[str, Any]] = []
        self.start: dict[str, Any] = {}
        self.end: dict[str, Any] = {}
        self.answer: tuple[int, bytes] | None = None
        self.waits: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.was_cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (scope["method"], scope["path"]) == ("POST", "/invocations")
        body = msgspec.json.decode((await receive())["body"])
        self.bodies.append(body)
        self.engine.said.append(body["request_id"])
        if self.fault:
            raise self.fault
        if self.waits:
            await self._hold(receive)
        status, answer = self.answer or (200, b"")
        await send({"type": "http.response.start", "status": status, "headers": []})
        if self.answer:
            await send({"type": "http.response.body", "body": answer})
            return
        prompt_tokens = TEMPLATE_TOKENS + len(body["query"].split())
        start = {"prompt_tokens": prompt_tokens, "was_truncated": False, "turns_dropped": 0, **self.start}
        await send(event("start", start))
        await self.clock.advance(0.25)
        await send(event("token", {"text": "event: end\n"}))
        await self.clock.advance(0.5)
        await send(event("end", {"finish_reason": "length", "completion_tokens": body["max_tokens"], **self.end}))
        await send({"type": "http.response.body", "body": b""})

    async def _hold(self, receive: Receive) -> None:
        assert self.waits is not None
        left = asyncio.ensure_future(receive())
        try:
            await self.waits.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        finally:
            assert not left.done(), "the caller left before it was answered"
            left.cancel()


def event(name: str, data: object) -> dict[str, Any]:
    body = b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
    return {"type": "http.response.body", "body": body, "more_body": True}


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def app(engine: Engine) -> App:
    return App(engine, ManualClock())


async def send(engine: Engine, app: App, *shapes: Shape, timeout_seconds: float = 10) -> WarmupSummary:
    return await warm_up(
        engine,  # type: ignore[arg-type]  # the part of an engine that the warmup uses
        app,
        shapes=shapes or (SHORT, LONG),
        timeout_seconds=timeout_seconds,
        started=lambda shape: engine.said.append(f"start {shape.name}"),
        clock=app.clock,
    )


async def test_every_shape_is_sent_and_forgotten_before_the_next(engine: Engine, app: App) -> None:
    await send(engine, app)
    first, second = (["start short", "warmup-short", "reset"], ["start long", "warmup-long", "reset"])
    assert engine.said == [*first, *second]


async def test_prompts_are_exact_and_name_model_and_adapter_where_there_is_one(engine: Engine, app: App) -> None:
    await send(engine, app, SHORT, ADAPTED, CATCH_ALL)
    short, adapted, catch_all = app.bodies
    assert [engine.count(body["query"]) for body in app.bodies] == [10, 20, 124 - TEMPLATE_TOKENS]
    assert (short["model"], short["max_tokens"], short["stream"]) == ("small", 4, True)
    assert (adapted["model"], adapted["adapter"]) == ("small", "sales")
    assert "adapter" not in short
    assert "adapter" not in catch_all


async def test_the_summary_says_how_each_shape_went(engine: Engine, app: App) -> None:
    summary = await send(engine, app, SHORT, ADAPTED)
    assert summary.to_status() == {
        "total_seconds": 1.5,
        "shapes": [
            {
                "name": "short",
                "adapter": None,
                "prompt_tokens": 18,
                "completion_tokens": 4,
                "first_token_seconds": 0.25,
                "total_seconds": 0.75,
                "ended_early": False,
            },
            {
                "name": "adapter-1",
                "adapter": "sales",
                "prompt_tokens": 28,
                "completion_tokens": 1,
                "first_token_seconds": 0.25,
                "total_seconds": 0.75,
                "ended_early": False,
            },
        ],
    }
    assert msgspec.json.encode(summary.to_status())


async def test_a_model_that_says_its_end_token_early_is_warm_and_that_is_said(engine: Engine, app: App) -> None:
    app.end = {"finish_reason": "stop", "completion_tokens": 1}
    (result,) = (await send(engine, app, SHORT)).shapes
    assert (result.completion_tokens, result.ended_early) == (1, True)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ({"prompt_tokens": 17}, {}, "its prompt has 18 tokens with the chat template, and the server read 17"),
        ({"was_truncated": True}, {}, "truncated: True"),
        ({"turns_dropped": 1}, {}, "was not sent as it is"),
        ({}, {"completion_tokens": 0, "finish_reason": "stop"}, "got 0 tokens of 4, and the finish reason was 'stop'"),
        ({}, {"completion_tokens": 3}, "got 3 tokens of 4, and the finish reason was 'length'"),
    ],
)
async def test_a_shape_whose_work_was_not_done_is_not_warm(
    engine: Engine, app: App, start: dict[str, Any], end: dict[str, Any], message: str
) -> None:
    app.start, app.end = start, end
    with pytest.raises(WarmupError, match=message) as caught:
        await send(engine, app, SHORT)
    assert "'short'" in caught.value.message


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (400, b'{"error": {"code": "context_length_exceeded"}}'),
        (503, b'{"error": {"code": "engine_dead"}}'),
        (200, b'event: start\ndata: {"prompt_tokens": 18}\n\nevent: error\ndata: {"code": "engine_dead"}\n\n'),
        (200, b'event: start\ndata: {"prompt_tokens": 18}\n\n'),
        (200, b"event: start\ndata: [1]\n\nevent: end\ndata: nothing\n\n"),
        (200, b""),
    ],
)
async def test_one_failed_shape_ends_the_warmup_with_status_and_answer(
    engine: Engine, app: App, status: int, answer: bytes
) -> None:
    app.answer = status, answer
    with pytest.raises(WarmupError, match=f"shape 'short' failed with {status}: ") as caught:
        await send(engine, app, SHORT, LONG)
    assert caught.value.message.endswith(answer.decode()[-200:])
    assert engine.said == ["start short", "warmup-short"]


async def test_a_long_answer_is_cut_and_needs_not_be_text(engine: Engine, app: App) -> None:
    app.answer = 500, b"\xff" * 100_000
    with pytest.raises(WarmupError) as caught:
        await send(engine, app, SHORT)
    assert len(caught.value.message) < 600


@pytest.mark.parametrize("fault", [KeyError("messages"), TimeoutError("one step")])
async def test_a_fault_in_the_application_names_the_shape(engine: Engine, app: App, fault: Exception) -> None:
    app.fault = fault
    with pytest.raises(WarmupError, match=rf"shape 'short' failed: {type(fault).__name__}: ") as caught:
        await send(engine, app, SHORT)
    assert not isinstance(caught.value, WarmupTimeoutError)


async def test_past_the_deadline_done_and_pending_shapes_are_named_and_the_request_ends(
    engine: Engine, app: App
) -> None:
    async def hold_the_second(scope: Scope, receive: Receive, answer: Send) -> None:
        app.waits = asyncio.Event() if app.bodies else None
        await app(scope, receive, answer)

    with pytest.raises(
        WarmupTimeoutError, match=r"after 0.05 s. Shapes done: short; pending: long, catch-all"
    ) as caught:
        await warm_up(
            engine,  # type: ignore[arg-type]  # the part of an engine that the warmup uses
            hold_the_second,
            shapes=(SHORT, LONG, CATCH_ALL),
            timeout_seconds=0.05,
            started=lambda _: None,
        )
    assert app.was_cancelled
    assert caught.value.code == "warmup_timeout"
    assert "warmup_timeout_seconds" in (caught.value.hint or "")


async def test_the_deadline_before_the_first_shape_is_done(engine: Engine, app: App) -> None:
    app.waits = asyncio.Event()
    with pytest.raises(WarmupTimeoutError, match="done: none; pending: short, long"):
        await send(engine, app, timeout_seconds=0.01)


async def test_an_engine_that_times_out_by_itself_is_not_taken_for_the_deadline(engine: Engine, app: App) -> None:
    engine.hangs = True
    with pytest.raises(WarmupError, match="before its own deadline") as caught:
        await send(engine, app)
    assert not isinstance(caught.value, WarmupTimeoutError)


async def test_a_cancelled_warmup_cancels_its_request(engine: Engine, app: App) -> None:
    app.waits = asyncio.Event()
    task = asyncio.create_task(send(engine, app, SHORT))
    async with asyncio.timeout(5):
        while not app.bodies:  # noqa: ASYNC110 - the warmup tells nobody that its request is there
            await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.was_cancelled


async def test_a_tokenizer_that_gives_no_such_prompt_fails_the_warmup(
    engine: Engine, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "count", lambda text: 2 * len(text.split()))
    with pytest.raises(WarmupError, match="exactly 9 tokens"):
        await send(engine, app, Shape(name="odd", prompt_tokens=9, output_tokens=1))


async def test_without_shapes_there_is_nothing_to_do(engine: Engine, app: App) -> None:
    summary = await warm_up(engine, app, shapes=(), timeout_seconds=1, started=lambda _: None)  # type: ignore[arg-type]  # as above
    assert summary.shapes == ()
