"""Ready means ready: constant load while a model server loads must never reach it before it is warm."""

from __future__ import annotations

import asyncio
import statistics
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import openai
import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.vllm, pytest.mark.timeout(240)]

REQUESTS_AFTER_READY = 20


@dataclass(frozen=True)
class Answer:
    """One request of the load: when it was sent, and how long its first token took."""

    sent_at: float
    first_token_seconds: float


async def ask(client: openai.AsyncOpenAI, model: str, number: int) -> Answer:
    sent_at = time.monotonic()
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": f"Say one short sentence about the number {number}."}],
        max_tokens=8,
        stream=True,
    )
    first: float | None = None
    async for chunk in stream:
        if first is None and chunk.choices and chunk.choices[0].delta.content:
            first = time.monotonic() - sent_at
    assert first is not None, "an answer without a token"
    return Answer(sent_at=sent_at, first_token_seconds=first)


def num_refused(stack: Stack, name: str) -> float:
    """Return how many requests the replica's gate has refused since it started."""
    with urllib.request.urlopen(f"{stack.service(name)['address']}/metrics", timeout=5) as answer:  # noqa: S310 - our own
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("pratique_inference_refused_total"))


async def load_while_it_starts(stack: Stack, name: str) -> tuple[list[Answer], float]:
    """Ask one question after the other until the replica is ready and then some; return answers and the ready time."""
    answers: list[Answer] = []
    ready_at = float("inf")
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key, max_retries=0) as client:
        model = (await client.models.list()).data[0].id
        checking: asyncio.Task[bool] | None = None
        since_ready = 0
        while since_ready < REQUESTS_AFTER_READY:
            if checking is None:
                checking = asyncio.create_task(asyncio.to_thread(lambda: bool(stack.service(name)["ready"])))
            answers.append(await ask(client, model, len(answers)))
            if checking.done():
                if await checking and ready_at == float("inf"):
                    ready_at = time.monotonic()
                checking = None
            since_ready += ready_at < float("inf")
        if checking is not None:
            await checking
    return answers, ready_at


async def test_load_never_lands_on_a_replica_that_is_loading(real_stack: Stack) -> None:
    real_stack.wait_until_ready("inference-0", "inference-1", timeout=180)
    real_stack.kill("inference-1")
    await asyncio.sleep(1)  # the edge's health check takes it out within half a second; streams on it are none
    assert not real_stack.service("inference-1")["ready"]

    answers, ready_at = await load_while_it_starts(real_stack, "inference-1")

    loading = [answer.first_token_seconds for answer in answers if answer.sent_at < ready_at]
    after = [answer.first_token_seconds for answer in answers if answer.sent_at >= ready_at]
    assert len(loading) >= 5, "the load ran while the replica was loading"
    assert num_refused(real_stack, "inference-1") == 0, "a request reached the replica before it was ready"
    # A cold engine answers its first request 3 to 5 times slower; one that is warm does not stand out.
    assert max(after) < 3 * statistics.median(after) + 0.5
