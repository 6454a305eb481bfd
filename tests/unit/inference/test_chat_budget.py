"""The context budget before the OpenAI API: what is forwarded, what is refused, and what the breaker is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from pratique.core.catalogue.inference import TURNS_DROPPED
from pratique.core.clock import ManualClock
from pratique.core.metrics import Metrics
from pratique.inference.api.chat_budget import ChatBudget
from pratique.inference.api.target import WARMUP, Outcome
from pratique.inference.containment.breaker import Admission, Breaker, BreakerState
from pratique.inference.context.fitter import Fitter
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.engines.simulated import SimulatedEngine
from pratique.inference.errors import DeathCause, EngineDeadError, InvalidInvocationError
from pratique.inference.settings import BudgetSettings, ContainmentSettings, InferenceSettings, SimulatedSettings

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Answer, Caller

pytestmark = pytest.mark.unit

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MAX_LEN = 512
REDUCED = 200
DONE = b"data: [DONE]\n\n"
Act = Callable[[Receive, Send], Awaitable[None]]


@dataclass
class Model:
    """A target, and an application behind it that says what it is told to and remembers what it got."""

    engine: SimulatedEngine
    fitter: Fitter
    breaker: Breaker
    clock: ManualClock
    name: str = "simulated"
    is_ready: bool = True
    act: Act | None = None
    bodies: list[bytes] = field(default_factory=list)
    lengths: list[bytes] = field(default_factory=list)
    settled: list[tuple[Admission, Outcome]] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)

    def admit(self, wanted_tokens: int) -> Admission:
        self.admitted.append(wanted_tokens)
        return self.breaker.admit(wanted_tokens)

    def settle(self, admission: Admission, outcome: Outcome) -> None:
        self.settled.append((admission, outcome))
        tell = {
            Outcome.SUCCEEDED: self.breaker.succeeded,
            Outcome.FAILED: self.breaker.failed,
            Outcome.ABANDONED: self.breaker.abandoned,
        }
        tell[outcome](admission)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive())["body"])
        self.lengths += [value for name, value in scope["headers"] if name == b"content-length"]
        assert self.act is not None
        await self.act(receive, send)

    @property
    def body(self) -> Any:
        return json.loads(self.bodies[-1])

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for _, outcome in self.settled]


def says(*chunks: bytes, status: int = 200) -> Act:
    async def act(_: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-own", b"1")]})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    return act


@pytest.fixture
def model() -> Model:
    fast = SimulatedSettings(load_seconds=0, first_token_seconds=0, token_seconds=0)
    engine = SimulatedEngine(fast, model="simulated", max_model_len=MAX_LEN)
    clock = ManualClock()
    breaker = Breaker(clock, ContainmentSettings(reduced_tokens=REDUCED), max_model_len=MAX_LEN)
    return Model(engine, Fitter(engine, BudgetSettings()), breaker, clock, act=says(b"{}"))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def budget(model: Model, metrics: Metrics) -> Callable[..., ChatBudget]:
    def make(app: Any = None, **changes: Any) -> ChatBudget:
        return ChatBudget(model, app or model, InferenceSettings(**changes), metrics=metrics)

    return make


@pytest.fixture
def call(budget: Callable[..., ChatBudget], caller: type[Caller]) -> Callable[..., Awaitable[Answer]]:
    async def send(body: object, path: str = CHAT, *, to: ChatBudget | None = None, **headers: str) -> Answer:
        return await caller(to or budget())("POST", path, body, **headers)

    return send


Call = Callable[..., Awaitable["Answer"]]
Make = Callable[..., ChatBudget]


def chat(num_exchanges: int = 0, words: int = 20, **fields: Any) -> dict[str, Any]:
    history = [
        {"role": role, "content": f"{role} {number} " + "言葉 " * words}
        for number in range(num_exchanges)
        for role in ("user", "assistant")
    ]
    head = [{"role": "system", "content": "be brief"}]
    return {"model": "simulated", "messages": [*head, *history, {"role": "user", "content": "質問 😀"}], **fields}


def trip(model: Model) -> None:
    model.breaker.trip(DeathCause.OUT_OF_MEMORY)


# What is forwarded


async def test_what_fits_is_forwarded_byte_for_byte(model: Model, call: Call) -> None:
    body = b'{ "messages" : [ {"role":"user","content":"\\u8cea"} ] , "x":1.50 }'
    answer = await call(body, content_length="999")
    assert model.bodies == [body]
    assert model.lengths == [str(len(body)).encode()]
    assert answer.status == 200
    assert answer.headers == {
        "x-own": "1",
        "x-pratique-budget": "fitted",
        "x-pratique-was-truncated": "false",
        "x-pratique-turns-dropped": "0",
        "x-pratique-prompt-tokens": "9",
        "x-pratique-total-tokens": str(9 + MAX_LEN // 2),
    }


async def test_what_does_not_fit_is_left_out_with_a_marker(model: Model, metrics: Metrics, call: Call) -> None:
    sent = chat(40, max_tokens=50, temperature=0.5)
    answer = await call(sent)
    got = model.body
    assert {**got, "messages": None} == {**sent, "messages": None}
    kept = [message for message in got["messages"] if message in sent["messages"]]
    assert kept[0] == sent["messages"][0]
    assert kept[-1] == sent["messages"][-1]
    new = [message for message in got["messages"] if message not in sent["messages"]]
    assert [message["role"] for message in new] == ["system"]
    dropped = len(sent["messages"]) - len(kept)
    assert str(dropped) in new[0]["content"]
    assert answer.headers["x-pratique-was-truncated"] == "true"
    assert answer.headers["x-pratique-turns-dropped"] == str(dropped)
    assert str(dropped) in unquote(answer.headers["x-pratique-notice"])
    prompt = [ChatMessage(message["role"], message["content"]) for message in got["messages"]]
    assert answer.headers["x-pratique-prompt-tokens"] == str(len(model.engine.encode(prompt)))
    assert int(answer.headers["x-pratique-total-tokens"]) <= MAX_LEN
    assert f'pratique_inference_turns_dropped_total{{api="openai"}} {dropped}.0' in metrics.render().decode()
    assert TURNS_DROPPED.name in metrics.render().decode()


async def test_the_reply_without_a_length_keeps_the_engines_default(model: Model, call: Call) -> None:
    await call(chat(40))
    assert "max_tokens" not in model.body
    assert "max_completion_tokens" not in model.body


async def test_several_heads_and_tools_are_counted_as_they_are_sent(model: Model, call: Call) -> None:
    heads = [
        {"role": "system", "content": "a b"},
        {"role": "developer", "content": ""},
        {"role": "system", "content": "c"},
    ]
    sent = chat(40, max_tokens=50, tools=[{"type": "function", "about": "one two three four"}])
    sent["messages"] = heads + sent["messages"][1:]
    answer = await call(sent)
    got = model.body["messages"]
    assert got[:3] == heads
    prompt = [ChatMessage(m["role"].replace("developer", "system"), m["content"]) for m in got]
    tools = msgspec.json.encode(sent["tools"]).decode()
    assert answer.headers["x-pratique-prompt-tokens"] == str(len(model.engine.encode(prompt, tools=tools)))
    assert int(answer.headers["x-pratique-total-tokens"]) <= MAX_LEN


async def test_a_tool_call_stays_with_its_result(model: Model, call: Call) -> None:
    unit = [
        {"role": "user", "content": "how warm?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "20 " * 100},
        {"role": "assistant", "content": "20"},
    ]
    for num_later in range(0, 12, 2):
        sent = chat(num_later, max_tokens=50)
        sent["messages"] = [*chat(3)["messages"][:-1], *unit, *sent["messages"][1:]]
        await call(sent)
        assert sum(message in unit for message in model.body["messages"]) in {0, 4}


async def test_what_must_be_there_and_does_not_fit_is_openais_error(model: Model, call: Call) -> None:
    answer = await call({"messages": [{"role": "user", "content": "word " * 600}]})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert error["type"] == "invalid_request_error"
    assert "512" in error["message"]
    assert model.bodies == []
    assert model.outcomes == [Outcome.ABANDONED]


async def test_a_body_over_the_limit_is_refused(model: Model, budget: Make, call: Call) -> None:
    answer = await call(b" " * 1025, to=budget(max_body_bytes=1024))
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert (model.bodies, model.settled) == ([], [])


# What passes as it is


@pytest.mark.parametrize("value", ["off", "OFF"])
async def test_turned_off_nothing_is_changed(model: Model, call: Call, value: str) -> None:
    body = json.dumps(chat(40)).encode()
    answer = await call(body, x_pratique_budget=value)
    assert model.bodies == [body]
    assert answer.headers == {"x-own": "1", "x-pratique-budget": "off"}
    assert model.outcomes == [Outcome.SUCCEEDED]


async def test_turned_off_for_all_nothing_is_changed(model: Model, budget: Make, call: Call) -> None:
    body = json.dumps(chat(40)).encode()
    await call(body, to=budget(budget=BudgetSettings(is_enabled=False)))
    assert model.bodies == [body]


async def test_what_cannot_be_counted_passes_and_says_so(model: Model, call: Call) -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    body = json.dumps({"messages": [image]}).encode()
    answer = await call(body)
    assert model.bodies == [body]
    assert answer.headers["x-pratique-budget"] == "unfitted"
    assert answer.headers["x-pratique-budget-reason"] == "image_url"


async def test_a_template_that_refuses_leaves_it_to_the_engine(
    model: Model, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> list[int]:
        raise InvalidInvocationError("The template does not take this.")

    monkeypatch.setattr(model.engine, "encode", refuse)
    answer = await call(chat(tools=[{"a": 1}]))
    assert answer.headers["x-pratique-budget-reason"] == "template"
    trip(model)
    assert (await call(chat(tools=[{"a": 1}]))).status == 503


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CHAT),
        ("GET", "/v1/models"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/chat/completions/"),
        ("PUT", CHAT),
    ],
)
async def test_other_paths_and_methods_pass_untouched(
    model: Model, budget: Make, caller: type[Caller], method: str, path: str
) -> None:
    answer = await caller(budget())(method, path, b"as it is")
    assert model.bodies == [b"as it is"]
    assert answer.headers == {"x-own": "1"}
    assert model.settled == []


async def test_the_warmup_passes_untouched(model: Model, budget: Make, caller: type[Caller]) -> None:
    made = budget()

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await made({**scope, WARMUP: True}, receive, send)

    await caller(marked)("POST", CHAT, b"as it is")
    assert (model.bodies, model.settled) == ([b"as it is"], [])


async def test_a_lifespan_passes(model: Model, budget: Make) -> None:
    seen = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    await budget(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # nothing is said
    assert seen == ["lifespan"]


async def test_a_client_that_leaves_while_it_sends_is_nobody_to_answer(model: Model, budget: Make) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await budget()({"type": "http", "method": "POST", "path": CHAT, "headers": []}, receive, None)  # type: ignore[arg-type]  # nothing is said
    assert (model.bodies, model.settled) == ([], [])


async def test_a_stream_is_not_held_back(model: Model, budget: Make, caller: type[Caller], answer: Any) -> None:
    go = asyncio.Event()

    async def act(_: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": DONE})

    model.act = act
    reply = answer()
    calling = asyncio.create_task(caller(budget()).into(reply, "POST", CHAT, chat(stream=True)))
    async with asyncio.timeout(5):
        while not reply.body:  # noqa: ASYNC110 - the reply tells nobody
            await asyncio.sleep(0.001)
        assert reply.body == b"data: 1\n\n"
        go.set()
        await calling
    assert reply.body == b"data: 1\n\n" + DONE


# While memory is short


async def test_while_open_messages_are_fitted_to_what_is_allowed(model: Model, call: Call) -> None:
    trip(model)
    sent = chat(10, max_tokens=20)
    answer = await call(sent)
    assert answer.headers["x-pratique-was-truncated"] == "true"
    assert int(answer.headers["x-pratique-total-tokens"]) <= REDUCED
    assert model.admitted[0] > REDUCED
    assert model.body["max_tokens"] == 20
    assert model.breaker.reduced == 1


@pytest.mark.parametrize("num_exchanges", [0, 10])
async def test_while_open_a_reply_without_a_length_gets_what_is_left(
    model: Model, call: Call, num_exchanges: int
) -> None:
    trip(model)
    answer = await call(chat(num_exchanges))
    assert model.body["max_completion_tokens"] == REDUCED - int(answer.headers["x-pratique-prompt-tokens"])
    assert model.body["max_completion_tokens"] >= REDUCED // 2


async def test_while_open_what_must_be_there_and_does_not_fit_may_come_again(model: Model, call: Call) -> None:
    trip(model)
    answer = await call({"messages": [{"role": "user", "content": "word " * 250}]})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["type"]) == (503, "capacity_limit", "service_unavailable")
    assert error["fallback"] == ContainmentSettings().fallback_text
    assert answer.headers["retry-after"] == "30"
    assert model.bodies == []


@pytest.mark.parametrize(
    "request_body",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": "q"}], "chat_template": "x"},
        b"{",
    ],
)
async def test_while_open_what_cannot_be_counted_is_refused(model: Model, call: Call, request_body: object) -> None:
    trip(model)
    answer = await call(request_body)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "capacity_limit")
    assert model.bodies == []
    assert model.outcomes == [Outcome.ABANDONED]


async def test_while_open_the_budget_can_only_be_turned_off_for_what_is_small(model: Model, call: Call) -> None:
    trip(model)
    assert (await call(chat(10, max_tokens=20), x_pratique_budget="off")).status == 503
    assert (await call(chat(1, max_tokens=20), x_pratique_budget="off")).status == 200


async def test_tools_count_when_it_is_asked_who_is_too_large(model: Model, call: Call) -> None:
    trip(model)
    tools = [{"about": "word " * 150}]
    assert (await call(chat(1, max_tokens=20, tools=tools), x_pratique_budget="off")).status == 503


@pytest.mark.parametrize(
    ("prompt", "status"),
    [("word " * 150, 200), ("word " * 300, 503), ([1] * 150, 200), ([[1] * 100] * 2, 503), (None, 503)],
)
async def test_while_open_completions_pass_only_where_they_are_small(
    model: Model, call: Call, prompt: object, status: int
) -> None:
    trip(model)
    answer = await call({"prompt": prompt, "max_tokens": 20}, COMPLETIONS)
    assert answer.status == status


async def test_while_closed_completions_pass_untouched(model: Model, call: Call) -> None:
    body = json.dumps({"prompt": "word " * 5000}).encode()
    answer = await call(body, COMPLETIONS)
    assert model.bodies == [body]
    assert answer.headers == {"x-own": "1"}
    assert model.outcomes == [Outcome.SUCCEEDED]


async def test_one_request_is_the_test_and_closes_the_breaker(
    model: Model, budget: Make, caller: type[Caller], answer: Any, call: Call
) -> None:
    trip(model)
    await model.clock.advance(30)
    go = asyncio.Event()
    quick = model.act

    async def act(receive: Receive, send: Send) -> None:
        await go.wait()
        assert quick is not None
        await quick(receive, send)

    model.act = act
    first = answer()
    calling = asyncio.create_task(caller(budget()).into(first, "POST", CHAT, chat(10, max_tokens=20)))
    async with asyncio.timeout(5):
        while not model.bodies:  # noqa: ASYNC110 - the application tells nobody
            await asyncio.sleep(0.001)
    model.act = quick
    second = await call(chat(10, max_tokens=20))
    go.set()
    await calling
    assert (first.headers["x-pratique-total-tokens"] > str(REDUCED), first.status) == (True, 200)
    assert int(second.headers["x-pratique-total-tokens"]) <= REDUCED
    assert model.breaker.state is BreakerState.CLOSED
    assert [admission.is_test for admission, _ in model.settled] == [False, True]


# How it ended


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (says(b"data: 1\n\n", DONE), Outcome.SUCCEEDED),
        (says(b"{}", status=404), Outcome.ABANDONED),
        (says(b"{}", status=503), Outcome.FAILED),
        (says(b'data: {"error":{"code":500}}\n\n', DONE), Outcome.FAILED),
    ],
)
async def test_the_breaker_is_told_once_how_it_ended(model: Model, call: Call, act: Act, outcome: Outcome) -> None:
    model.act = act
    await call(chat())
    assert model.outcomes == [outcome]


async def test_an_application_that_raises_has_failed(model: Model, call: Call) -> None:
    async def act(_: Receive, __: Send) -> None:
        raise EngineDeadError("gone")

    model.act = act
    with pytest.raises(EngineDeadError):
        await call(chat())
    assert model.outcomes == [Outcome.FAILED]


async def test_a_request_that_is_cancelled_says_nothing_about_the_engine(model: Model, call: Call) -> None:
    async def act(_: Receive, __: Send) -> None:
        await asyncio.Event().wait()

    model.act = act
    calling = asyncio.ensure_future(call(chat()))
    async with asyncio.timeout(5):
        while not model.bodies:  # noqa: ASYNC110 - the application tells nobody
            await asyncio.sleep(0.001)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    assert model.outcomes == [Outcome.ABANDONED]
