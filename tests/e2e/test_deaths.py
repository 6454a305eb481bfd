"""Kill -9 at random moments of a reply: nothing lost, nothing twice, and the stack heals itself.

The moments are random but their seeds are fixed, so that a failure can be looked at again. Every reply is compared with
the turn that the durable store holds. Twenty deaths of each kind run over simulated engines, whose counted words show a
lost or doubled piece at once; a few more run over vLLM.
"""

from __future__ import annotations

import os
import random
import signal
import time
import urllib.request
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from pratique.client import ChatClient, FinishReason, Reply, Role, Token, Turn, TurnStatus

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack

    from pratique.client import ReplyStream

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

GO_ON_WITHIN_SECONDS = 2.0
LONG_STORY = "Tell me a long story about a ship and its harbour."


@dataclass
class Watched:
    """A reply as it came in: the text, and when each piece did."""

    text: str = ""
    token_times: list[float] = field(default_factory=list)
    reply: Reply | None = None

    def longest_gap_after(self, moment: float) -> float:
        """Return the longest wait for a token that had not come by `moment`."""
        after = [at for at in self.token_times if at > moment]
        return max((later - sooner for sooner, later in pairwise([moment, *after])), default=0.0)


async def watch(stream: ReplyStream, watched: Watched) -> None:
    async with stream:
        async for event in stream:
            if isinstance(event, Token):
                watched.text += event.text
                watched.token_times.append(time.monotonic())
    watched.reply = stream.reply


async def wait_for_tokens(watched: Watched, at_least: int) -> None:
    with anyio.fail_after(60):
        while len(watched.token_times) < at_least:  # noqa: ASYNC110 - the tokens come from another process
            await anyio.sleep(0.01)


async def stored_turns(chat: ChatClient, reply: Reply) -> tuple[Turn, ...]:
    return (await chat.conversation(reply.conversation_id)).turns


def assert_nothing_lost_or_doubled(watched: Watched, turns: tuple[Turn, ...]) -> None:
    said = [turn for turn in turns if turn.role is Role.ASSISTANT]
    assert len(said) == 1, "one answer, never a second"
    assert watched.text == said[0].text


def generating_replica(stack: Stack) -> dict[str, Any]:
    """Return the model server that has a request in flight."""
    for service in stack.status()["services"]:
        if service["name"].startswith("inference"):
            with urllib.request.urlopen(f"{service['address']}/metrics", timeout=5) as answer:  # noqa: S310 - our own
                if b"\npratique_inference_in_flight 1.0" in answer.read():
                    return dict(service)
    raise AssertionError("no model server has a request in flight")


@pytest.mark.parametrize("seed", range(20))
async def test_orchestrator_dies_while_it_streams(simulated_stack: Stack, seed: int) -> None:
    simulated_stack.wait_until_ready("orchestrator-0", "orchestrator-1")
    async with ChatClient(simulated_stack.url, api_key=simulated_stack.api_key) as chat:
        replica = simulated_stack.service((await chat.session()).replica)
        watched = Watched()
        async with anyio.create_task_group() as group:
            group.start_soon(watch, chat.send(f"{LONG_STORY} Number {seed}."), watched)
            await wait_for_tokens(watched, 1)
            await anyio.sleep(random.Random(seed).uniform(0, 1.2))  # noqa: S311 - a moment to die at, no secret
            killed_at = time.monotonic()
            os.kill(replica["pid"], signal.SIGKILL)
        assert watched.reply is not None
        assert watched.reply.finish_reason is FinishReason.STOP
        assert_nothing_lost_or_doubled(watched, await stored_turns(chat, watched.reply))
        assert watched.longest_gap_after(killed_at) <= GO_ON_WITHIN_SECONDS


@pytest.mark.parametrize("seed", range(20))
async def test_model_server_dies_in_the_middle_of_a_reply(simulated_stack: Stack, seed: int) -> None:
    simulated_stack.wait_until_ready("inference-0", "inference-1")
    async with ChatClient(simulated_stack.url, api_key=simulated_stack.api_key) as chat:
        await model_server_dies(simulated_stack, chat, seed, within_seconds=1.0)


@pytest.mark.vllm
@pytest.mark.parametrize("seed", range(int(os.environ.get("PRATIQUE_E2E_VLLM_DEATHS", "2"))))
async def test_vllm_dies_in_the_middle_of_a_reply(real_stack: Stack, seed: int) -> None:
    real_stack.wait_until_ready("inference-0", "inference-1", timeout=180)
    async with ChatClient(real_stack.url, api_key=real_stack.api_key) as chat:
        await model_server_dies(real_stack, chat, seed, within_seconds=2.0)
    real_stack.wait_until_ready("inference-0", "inference-1", timeout=180)


async def model_server_dies(stack: Stack, chat: ChatClient, seed: int, *, within_seconds: float) -> None:
    watched = Watched()
    async with anyio.create_task_group() as group:
        group.start_soon(watch, chat.send(f"{LONG_STORY} Number {seed}.", max_tokens=128), watched)
        await wait_for_tokens(watched, 1)
        victim = generating_replica(stack)
        await anyio.sleep(random.Random(seed).uniform(0, within_seconds) / 2)  # noqa: S311 - a moment to die at
        os.kill(victim["pid"], signal.SIGKILL)
    reply = watched.reply
    assert reply is not None
    turns = await stored_turns(chat, reply)
    assert_nothing_lost_or_doubled(watched, turns)
    if turns[-1].status is TurnStatus.PARTIAL:
        assert reply.finish_reason is FinishReason.ERROR, "a cut reply says so"

    # The next message is answered at once, by the replica that lives.
    following = await chat.ask("And then?", conversation_id=reply.conversation_id, max_tokens=16)
    assert following.text
    stack.wait_until_ready(victim["name"], timeout=180)


@pytest.mark.vllm
async def test_orchestrator_dies_while_vllm_streams(real_stack: Stack) -> None:
    real_stack.wait_until_ready("orchestrator-0", "orchestrator-1", "inference-0")
    async with ChatClient(real_stack.url, api_key=real_stack.api_key) as chat:
        replica = real_stack.service((await chat.session()).replica)
        watched = Watched()
        async with anyio.create_task_group() as group:
            group.start_soon(watch, chat.send(LONG_STORY, max_tokens=96), watched)
            await wait_for_tokens(watched, 5)
            os.kill(replica["pid"], signal.SIGKILL)
        assert watched.reply is not None
        assert_nothing_lost_or_doubled(watched, await stored_turns(chat, watched.reply))
