"""The OpenAI API of a whole model server: conversations that are too long, and times of short memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pratique.inference.containment.breaker import BreakerState
from pratique.inference.errors import DeathCause
from pratique.inference.settings import ContainmentSettings

if TYPE_CHECKING:
    from tests.unit.inference.conftest import Launch, Running

pytestmark = pytest.mark.unit

CHAT = "/v1/chat/completions"


@pytest.fixture
async def ready(launch: Launch) -> Running:
    running = launch()
    await running.until("traffic_ready")
    return running


def long_chat(**fields: Any) -> dict[str, Any]:
    history = [{"role": role, "content": "言葉 " * 60} for _ in range(60) for role in ("user", "assistant")]
    return {
        "model": "simulated",
        "messages": [*history, {"role": "user", "content": "質問"}],
        "max_tokens": 5,
        **fields,
    }


async def test_a_conversation_that_is_too_long_is_answered(ready: Running) -> None:
    answer = await ready.call("POST", CHAT, long_chat())
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"].startswith("You said: 質問")
    assert answer.json()["usage"]["prompt_tokens"] == int(answer.headers["x-pratique-prompt-tokens"])
    assert int(answer.headers["x-pratique-turns-dropped"]) > 0


async def test_a_stream_of_it_is_whole(ready: Running) -> None:
    answer = await ready.call("POST", CHAT, long_chat(stream=True))
    assert answer.headers["x-pratique-was-truncated"] == "true"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_with_the_budget_off_the_engines_own_error_comes(ready: Running) -> None:
    answer = await ready.call("POST", CHAT, long_chat(), x_pratique_budget="off")
    assert answer.status == 400
    assert "maximum context length" in answer.json()["error"]["message"]


async def test_while_memory_is_short_less_goes_in(ready: Running) -> None:
    ready.slot.breaker.trip(DeathCause.OUT_OF_MEMORY)
    answer = await ready.call("POST", CHAT, long_chat())
    assert answer.status == 200
    assert int(answer.headers["x-pratique-total-tokens"]) <= ready.slot.breaker.reduced_tokens
    refused = await ready.call("POST", CHAT, long_chat(), x_pratique_budget="off")
    assert (refused.status, refused.json()["error"]["code"]) == (503, "capacity_limit")
    assert ready.slot.breaker.state is BreakerState.OPEN


async def test_an_engine_that_fails_midway_ends_the_stream_with_an_error(launch: Launch) -> None:
    running = launch()
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(
        fail_after_tokens=1, token_seconds=0, first_token_seconds=0
    )
    answer = await running.call("POST", CHAT, long_chat(stream=True))
    assert b'"error"' in answer.body
    assert (await running.call("POST", CHAT, long_chat())).status == 500


async def test_a_trip_while_a_prompt_is_made_takes_the_full_context_back(ready: Running) -> None:
    fit, num_fits = ready.slot.fitter.fit, 0

    def fit_and_trip(*arguments: Any, **options: Any) -> Any:
        nonlocal num_fits
        num_fits += 1
        if num_fits == 1:
            ready.slot.breaker.trip(DeathCause.OUT_OF_MEMORY)
        return fit(*arguments, **options)

    ready.slot.fitter.fit = fit_and_trip  # type: ignore[method-assign]
    answer = await ready.call("POST", CHAT, long_chat())
    assert int(answer.headers["x-pratique-total-tokens"]) <= ready.slot.breaker.reduced_tokens
    assert num_fits > 1


@pytest.mark.parametrize("n", [2, 10**30, "many"])
async def test_several_replies_are_refused_while_memory_is_short(ready: Running, n: object) -> None:
    assert (await ready.call("POST", CHAT, long_chat(n=n))).status != 503
    ready.slot.breaker.trip(DeathCause.OUT_OF_MEMORY)
    refused = await ready.call("POST", CHAT, long_chat(n=n))
    assert (refused.status, refused.json()["error"]["code"]) == (503, "capacity_limit")
    assert (await ready.call("POST", CHAT, long_chat(n=None))).status == 200


async def test_a_request_that_breaks_the_application_does_not_keep_the_breaker_open(launch: Launch) -> None:
    running = launch(containment=ContainmentSettings(cooldown_seconds=0.01))
    await running.until("traffic_ready")
    running.engine._settings = type(running.engine._settings)(
        fail_after_tokens=1, token_seconds=0, first_token_seconds=0
    )
    running.slot.breaker.trip(DeathCause.OUT_OF_MEMORY)
    await running.wait_for(lambda: running.slot.breaker.state is BreakerState.HALF_OPEN)
    assert (await running.call("POST", CHAT, long_chat())).status == 500
    assert running.slot.breaker.state is BreakerState.HALF_OPEN
    assert not running.slot.breaker.is_testing
