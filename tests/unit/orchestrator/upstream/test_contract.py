"""Every upstream tells the same things apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any, Self

import pytest

from pratique.orchestrator.upstream.deadlines import Deadlines, UpstreamWithDeadlines
from pratique.orchestrator.upstream.interface import (
    HistoryTurn,
    TimeoutPhase,
    Upstream,
    UpstreamEnd,
    UpstreamEvent,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamStream,
    UpstreamTimeoutError,
    UpstreamToken,
    UpstreamUnavailableError,
)
from pratique.orchestrator.upstream.scripted import Hang, Pause, ScriptedUpstream, echo_text

pytestmark = pytest.mark.unit

Play = Callable[..., AbstractAsyncContextManager[tuple[Upstream, ScriptedUpstream]]]
Ask = Callable[..., UpstreamRequest]
START = UpstreamStart(model="m", prompt_tokens=3, was_truncated=True, turns_dropped=2)
END = UpstreamEnd(finish_reason="stop", prompt_tokens=3, completion_tokens=2)


async def collect(upstream: Upstream, request: UpstreamRequest) -> list[UpstreamEvent]:
    async with upstream.open(request) as stream:
        return [event async for event in stream]


def text_of(events: list[UpstreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, UpstreamToken))


async def test_whole_reply_in_order(play: Play, ask: Ask) -> None:
    script = [START, UpstreamToken("こん"), UpstreamToken("にちは\n"), END]
    async with play(script) as (upstream, _):
        assert await collect(upstream, ask()) == script


async def test_echo_continues_exactly_after_the_prefix(play: Play, ask: Ask) -> None:
    whole = echo_text("one two three")
    async with play() as (upstream, _):
        for cut in (0, 1, 7, len(whole) - 1):
            assert text_of(await collect(upstream, ask(prefix=whole[:cut]))) == whole[cut:]


async def test_everything_asked_for_arrives(play: Play, ask: Ask) -> None:
    request = ask(
        query="last",
        system_prompt="be kind",
        history=(HistoryTurn("user", "a"), HistoryTurn("assistant", "b")),
        prefix="la",
        max_tokens=7,
        temperature=0.5,
    )
    async with play() as (upstream, script):
        await collect(upstream, request)
    assert script.requests == [request]


async def test_nobody_takes_the_request(play: Play, ask: Ask) -> None:
    async with play([UpstreamUnavailableError("loading")]) as (upstream, _):
        with pytest.raises(UpstreamUnavailableError):
            await collect(upstream, ask())


async def test_refusal_keeps_its_code_message_and_hint(play: Play, ask: Ask) -> None:
    refusal = UpstreamRefusedError("9000 tokens", refused_code="context_length_exceeded", hint="shorter")
    async with play([refusal]) as (upstream, _):
        with pytest.raises(UpstreamRefusedError) as refused:
            await collect(upstream, ask())
    assert (refused.value.refused_code, refused.value.message, refused.value.hint) == (
        "context_length_exceeded",
        "9000 tokens",
        "shorter",
    )


async def test_refusal_after_the_start(play: Play, ask: Ask) -> None:
    async with play([START, UpstreamRefusedError("no", refused_code="engine_error")]) as (upstream, _):
        with pytest.raises(UpstreamRefusedError):
            await collect(upstream, ask())


@pytest.mark.parametrize("num_before", [0, 1, 2])
async def test_lost_server_is_an_interruption(play: Play, ask: Ask, num_before: int) -> None:
    said = [START, UpstreamToken("a")][:num_before]
    async with play([*said, UpstreamInterruptedError("killed")]) as (upstream, _):
        with pytest.raises(UpstreamInterruptedError):
            await collect(upstream, ask())


async def test_stream_that_is_over_without_an_end_was_cut(play: Play, ask: Ask) -> None:
    async with play([START, UpstreamToken("a")]) as (upstream, _):
        with pytest.raises(UpstreamInterruptedError):
            await collect(upstream, ask())


async def test_leaving_early_aborts_the_reply(play: Play, ask: Ask) -> None:
    async with play([START, UpstreamToken("a"), Hang()]) as (upstream, script):
        async with upstream.open(ask()) as stream:
            await stream.__anext__()
            await stream.__anext__()
        async with asyncio.timeout(2):
            await script.was_aborted.wait()
    assert script.aborted == ["req_1"]


async def test_reading_to_the_end_aborts_nothing(play: Play, ask: Ask) -> None:
    async with play([START, END]) as (upstream, script):
        await collect(upstream, ask())
        await asyncio.sleep(0)
    assert script.aborted == []


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        ([], TimeoutPhase.FIRST_TOKEN),
        ([START], TimeoutPhase.FIRST_TOKEN),
        ([START, UpstreamToken("a")], TimeoutPhase.INTER_TOKEN),
    ],
)
async def test_silence_is_a_timeout_of_its_phase(
    play: Play, ask: Ask, said: list[UpstreamEvent], phase: TimeoutPhase
) -> None:
    async with play([*said, Hang()]) as (upstream, script):
        timed = UpstreamWithDeadlines(upstream, Deadlines(first_token_seconds=0.1, inter_token_seconds=0.05))
        with pytest.raises(UpstreamTimeoutError) as late:
            await collect(timed, ask())
        async with asyncio.timeout(2):
            await script.was_aborted.wait()
    assert late.value.phase is phase


async def test_whole_reply_has_a_deadline_of_its_own(play: Play, ask: Ask) -> None:
    async with play([START, UpstreamToken("a"), Hang()]) as (upstream, _):
        with pytest.raises(UpstreamTimeoutError) as late:
            await collect(UpstreamWithDeadlines(upstream, Deadlines()), ask(timeout_seconds=0.05))
    assert late.value.phase is TimeoutPhase.REPLY


async def test_request_may_say_less_than_the_time_out_never_more(play: Play, ask: Ask) -> None:
    async with play([START, Hang()], [START, Hang()]) as (upstream, _):
        for usual, asked in ((60.0, 0.05), (0.05, 60.0)):
            timed = UpstreamWithDeadlines(upstream, Deadlines(first_token_seconds=usual))
            with pytest.raises(UpstreamTimeoutError) as late:
                async with asyncio.timeout(5):
                    await collect(timed, ask(first_text_seconds=asked))
            assert late.value.phase is TimeoutPhase.FIRST_TOKEN


async def test_deadlines_leave_a_punctual_reply_alone(play: Play, ask: Ask) -> None:
    async with play([START, UpstreamToken("a"), END]) as (upstream, _):
        timed = UpstreamWithDeadlines(upstream, Deadlines())
        assert await collect(timed, ask()) == [START, UpstreamToken("a"), END]
        await timed.aclose()


def taking(into: list[str]) -> Callable[[str], bool]:
    """Return what takes all text."""

    def take(text: str) -> bool:
        into.append(text)
        return True

    return take


async def hand_on(stream: UpstreamStream, take: Callable[[str], bool]) -> list[UpstreamEvent]:
    """Read a stream whose text goes to `take` once there was any; return what came as events."""
    events = []
    async for event in stream:
        events.append(event)
        if isinstance(event, UpstreamToken):
            stream.hand_on(take)
    return events


async def test_text_is_handed_on_and_all_else_is_the_next_event(play: Play, ask: Ask) -> None:
    words = [UpstreamToken(f"w{number}") for number in range(5)]
    taken: list[str] = []
    async with play([START, *words, END]) as (upstream, _), upstream.open(ask()) as stream:
        # Some may have come together with the first: those are the next events, before what is handed on.
        said = await hand_on(stream, taking(taken))
    assert said[0] == START
    assert said[-1] == END
    assert text_of(said) + "".join(taken) == "w0w1w2w3w4"


async def test_text_that_is_not_taken_is_the_next_event_and_nothing_overtakes_it(play: Play, ask: Ask) -> None:
    words = [[Pause(0.01), UpstreamToken(f"w{number}")] for number in range(6)]
    seen: list[str] = []

    def take(text: str) -> bool:
        if text in {"w2", "w3", "w5"}:
            return False
        seen.append(f"taken {text}")
        return True

    async with play([START, *(step for word in words for step in word), END]) as (upstream, _):
        timed = UpstreamWithDeadlines(upstream, Deadlines())
        async with timed.open(ask()) as stream:
            async for event in stream:
                if isinstance(event, UpstreamToken):
                    seen.append(f"event {event.text}")
                    stream.hand_on(take)
    assert seen == ["event w0", "taken w1", "event w2", "event w3", "taken w4", "event w5"]


async def test_text_that_is_handed_on_moves_the_deadline_and_silence_after_it_is_late(play: Play, ask: Ask) -> None:
    words = [step for number in range(8) for step in (Pause(0.03), UpstreamToken(f"w{number}"))]
    taken: list[str] = []
    async with play([START, *words, Hang()]) as (upstream, script):
        timed = UpstreamWithDeadlines(upstream, Deadlines(inter_token_seconds=0.15))
        with pytest.raises(UpstreamTimeoutError) as late:
            async with timed.open(ask()) as stream:
                await hand_on(stream, taking(taken))
        async with asyncio.timeout(2):
            await script.was_aborted.wait()
    assert late.value.phase is TimeoutPhase.INTER_TOKEN
    assert taken == [f"w{number}" for number in range(1, 8)]


async def test_who_is_cancelled_while_text_is_handed_on_gets_no_more_of_it(play: Play, ask: Ask) -> None:
    words = [step for number in range(1000) for step in (Pause(0.001), UpstreamToken("w"))]
    taken: list[str] = []
    async with play([START, *words]) as (upstream, script):

        async def read() -> None:
            async with upstream.open(ask()) as stream:
                await hand_on(stream, taking(taken))

        reading = asyncio.ensure_future(read())
        async with asyncio.timeout(2):
            while not taken:  # noqa: ASYNC110 - who takes text signals nobody
                await asyncio.sleep(0.001)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        num_taken = len(taken)
        async with asyncio.timeout(2):
            await script.was_aborted.wait()
        assert len(taken) == num_taken


class Clashing:
    """A stream whose step is cancelled from outside at the very moment that it is late."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> UpstreamEvent:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.02, task.cancel)
        time.sleep(0.03)  # noqa: ASYNC251 - so that both are due when the loop looks again
        await asyncio.Event().wait()
        raise AssertionError


async def test_who_is_cancelled_and_late_at_once_is_cancelled(ask: Ask) -> None:
    upstream: Any = SimpleNamespace(open=lambda _: Clashing())
    timed = UpstreamWithDeadlines(upstream, Deadlines(first_token_seconds=0.02))
    asking = asyncio.ensure_future(collect(timed, ask()))
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert asking.cancelled()


async def test_reader_that_is_slow_itself_is_not_late_until_it_asks_again(ask: Ask) -> None:
    upstream = ScriptedUpstream([[START, UpstreamToken("a"), UpstreamToken("b"), Hang()]])
    timed = UpstreamWithDeadlines(upstream, Deadlines(first_token_seconds=0.02, inter_token_seconds=0.02))
    seen = []

    async def read_slowly() -> None:
        async with timed.open(ask()) as stream:
            async for event in stream:
                seen.append(event)
                await asyncio.sleep(0.05)

    with pytest.raises(UpstreamTimeoutError) as late:
        await read_slowly()
    assert text_of(seen) == "ab"
    assert late.value.phase is TimeoutPhase.INTER_TOKEN
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
