"""Recall by summary: never waits, never in a customer's way, goes on after every failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pratique.core.clock import ManualClock, SystemClock
from pratique.core.metrics import Metrics
from pratique.inference.context.recall._summaries import Job, Summaries
from pratique.inference.context.recall.factory import make_recall
from pratique.inference.context.recall.relevance import RelevanceRecall
from pratique.inference.context.recall.summary import SummaryLimits, SummaryRecall
from pratique.inference.engines.interface import ChatMessage, Engine, GenerateRequest, Piece
from pratique.inference.engines.simulated import SimulatedEngine
from pratique.inference.errors import EngineDeadError
from pratique.inference.settings import BudgetSettings, SimulatedSettings

pytestmark = pytest.mark.unit


class NotingEngine:
    """Sums up by numbering its answers; a token is a character."""

    model = "noting"

    def __init__(self, *, max_model_len: int = 2000) -> None:
        self.max_model_len = max_model_len
        self.asked: list[GenerateRequest] = []
        self.num_unfinished = 0
        self.is_dead = False
        self.failure: Exception | None = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.reply: Callable[[int], str] = lambda number: f"notes {number}"

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        return [0] * sum(len(message.content) for message in messages)

    def count(self, text: str) -> int:
        return len(text)

    def check(self) -> None:
        if self.is_dead:
            raise EngineDeadError("It is dead.")

    def pulse(self) -> Any:
        return SimpleNamespace(num_unfinished=self.num_unfinished)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        self.asked.append(request)
        if self.failure is not None:
            raise self.failure
        await self.hold.wait()
        yield Piece(text=self.reply(len(self.asked)), completion_tokens=2, finish_reason="stop")


@asynccontextmanager
async def summing(engine: NotingEngine, max_tokens: int = 50, **changes: Any) -> AsyncIterator[SummaryRecall]:
    changes.setdefault("clock", SystemClock())
    changes.setdefault("metrics", Metrics())
    recall = SummaryRecall(cast("Engine", engine), max_tokens=max_tokens, **changes)
    await recall.start()
    try:
        yield recall
    finally:
        await recall.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a finished summary tells nobody
            await asyncio.sleep(0.001)


def turns(number: int, size: int = 10) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage("user", f"turn {index} ".ljust(size, "x")) for index in range(number))


async def test_there_is_none_at_first_and_then_the_one_that_was_asked_for() -> None:
    engine = NotingEngine()
    async with summing(engine) as recall:
        assert recall.text_for(turns(2), "q") == ""
        await until(lambda: recall.text_for(turns(2), "q") == "notes 1")
        assert len(engine.asked) == 1
        assert engine.asked[0].max_tokens == 50
        assert "turn 0" in engine.asked[0].messages[-1].content


async def test_a_longer_history_gets_the_older_summary_and_one_made_of_it() -> None:
    engine = NotingEngine()
    async with summing(engine) as recall:
        recall.text_for(turns(2), "q")
        await until(lambda: recall.text_for(turns(2), "q"))
        assert recall.text_for(turns(3), "q") == "notes 1"
        await until(lambda: recall.text_for(turns(3), "q") == "notes 2")
        said = engine.asked[1].messages[-1].content
        assert "notes 1" in said
        assert "turn 2" in said
        assert "turn 1" not in said  # it is in the notes
        assert recall.text_for(turns(2), "q") == "notes 1"


async def test_no_summary_begins_while_a_customer_is_served() -> None:
    engine, clock = NotingEngine(), ManualClock()
    engine.num_unfinished = 1
    async with summing(engine, clock=clock) as recall:
        recall.text_for(turns(2), "q")
        await clock.advance(5)
        assert engine.asked == []
        engine.num_unfinished = 0
        await clock.advance(1)
        await until(lambda: recall.text_for(turns(2), "q"))


async def test_after_a_death_it_waits_for_the_restart_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    engine, clock, metrics = NotingEngine(), ManualClock(), Metrics()
    async with summing(engine, clock=clock, metrics=metrics) as recall:
        engine.failure = EngineDeadError("It was killed.")
        recall.text_for(turns(2), "q")
        await until(lambda: outcome(metrics, "failed") == 1)
        engine.is_dead, engine.failure = True, None
        assert recall.text_for(turns(2), "q") == ""
        await clock.advance(60)
        assert len(engine.asked) == 1
        engine.is_dead = False
        await clock.advance(1)
        await until(lambda: recall.text_for(turns(2), "q") == "notes 2")


@pytest.mark.parametrize("failure", [EngineDeadError("gone"), RuntimeError("a bug")])
async def test_a_failure_is_counted_and_the_next_one_is_made(failure: Exception) -> None:
    engine, metrics = NotingEngine(), Metrics()
    async with summing(engine, metrics=metrics) as recall:
        engine.failure = failure
        recall.text_for(turns(1), "q")
        await until(lambda: outcome(metrics, "failed") == 1)
        engine.failure = None
        assert recall.text_for(turns(1), "q") == ""
        await until(lambda: recall.text_for(turns(1), "q"))
        assert outcome(metrics, "made") == 1


async def test_a_summary_that_takes_too_long_is_given_up() -> None:
    engine, metrics = NotingEngine(), Metrics()
    engine.hold.clear()
    async with summing(engine, metrics=metrics, limits=SummaryLimits(deadline_seconds=0.01)) as recall:
        recall.text_for(turns(1), "q")
        await until(lambda: outcome(metrics, "timeout") == 1)
        engine.hold.set()
        recall.text_for(turns(1), "q")
        await until(lambda: recall.text_for(turns(1), "q"))


async def test_an_empty_summary_is_none() -> None:
    engine, metrics = NotingEngine(), Metrics()
    engine.reply = lambda number: " \n "
    async with summing(engine, metrics=metrics) as recall:
        recall.text_for(turns(1), "q")
        await until(lambda: outcome(metrics, "empty") == 1)
        assert recall.text_for(turns(1), "q") == ""


async def test_a_summary_longer_than_its_tokens_is_cut_between_words() -> None:
    engine = NotingEngine()
    engine.reply = lambda number: "word " * 30
    async with summing(engine) as recall:
        recall.text_for(turns(1), "q")
        await until(lambda: recall.text_for(turns(1), "q"))
        text = recall.text_for(turns(1), "q")
        assert len(text) <= 50
        assert set(text.split()) == {"word"}


async def test_a_history_longer_than_a_prompt_is_summed_up_in_steps() -> None:
    engine = NotingEngine(max_model_len=900)
    history = turns(30, size=200)
    async with summing(engine) as recall:
        async with asyncio.timeout(5):
            while recall._summaries.find(history)[1] is not None:
                recall.text_for(history, "q")
                await asyncio.sleep(0.001)
        assert all(len(request.prompt) + 50 <= 900 for request in engine.asked)
        everything = "".join(request.messages[-1].content for request in engine.asked)
        assert all(f"turn {index} " in everything for index in range(30))


async def test_a_turn_longer_than_a_prompt_is_summed_up_from_its_ends() -> None:
    engine = NotingEngine(max_model_len=900)
    async with summing(engine) as recall:
        recall.text_for((ChatMessage("user", "first " + "word " * 5000 + "last"),), "q")
        await until(lambda: engine.asked)
        said = engine.asked[0].messages[-1].content
        assert "first" in said
        assert "last" in said


async def test_a_model_without_room_for_the_instruction_is_a_failure_not_a_loop() -> None:
    engine, metrics = NotingEngine(max_model_len=100), Metrics()
    async with summing(engine, metrics=metrics) as recall:
        recall.text_for(turns(1), "q")
        await until(lambda: outcome(metrics, "failed") == 1)


async def test_closing_ends_a_summary_in_the_middle() -> None:
    engine = NotingEngine()
    engine.hold.clear()
    async with summing(engine) as recall:
        recall.text_for(turns(1), "q")
        await until(lambda: engine.asked)
    assert recall.text_for(turns(1), "q") == ""  # asks for what nobody makes any more: no error
    await recall.aclose()


async def test_nothing_is_asked_for_where_nothing_was_left_out_or_nothing_may_be_said() -> None:
    engine = NotingEngine()
    async with summing(engine) as recall:
        assert recall.text_for((), "q") == ""
        assert recall._summaries.num_jobs == 0
    async with summing(engine, max_tokens=0) as recall:
        assert recall.text_for(turns(3), "q") == ""
        assert recall._summaries.num_jobs == 0


def outcome(metrics: Metrics, name: str) -> float:
    labels = {"model": "noting", "outcome": name}
    return metrics.registry.get_sample_value("pratique_inference_summaries_total", labels) or 0.0


def summaries(**limits: int) -> Summaries:
    return Summaries(**{"max_summaries": 3, "max_jobs": 2, "max_job_characters": 1000, **limits})


def job_for(known: Summaries, history: tuple[ChatMessage, ...]) -> Job:
    job = known.find(history)[1]
    assert job is not None
    return job


def test_a_job_for_more_turns_of_a_conversation_takes_the_place_of_the_one_for_fewer() -> None:
    known = summaries()
    assert known.ask(job_for(known, turns(2))) == (0, 0)
    assert known.ask(job_for(known, turns(3))) == (1, 0)
    assert known.ask(job_for(known, turns(3))) == (0, 0)
    assert known.num_jobs == 1


def test_a_full_queue_gives_up_the_job_that_waits_longest() -> None:
    known = summaries()
    others = [(ChatMessage("user", f"other {number}"),) for number in range(3)]
    assert [known.ask(job_for(known, other)) for other in others] == [(0, 0), (0, 0), (0, 1)]
    taken = known.take()
    assert taken is not None
    assert taken.messages == others[1]


def test_what_a_summary_covers_by_now_is_not_made_again() -> None:
    known = summaries()
    known.ask(job_for(known, turns(3)))
    known.keep(job_for(known, turns(2)).digests[-1], "two")
    job = known.take()
    assert job == Job(previous="two", messages=turns(3)[2:], digests=job_for(known, turns(3)).digests)
    known.ask(job_for(known, turns(3)))
    known.keep(job_for(known, turns(3)).digests[-1], "three")
    assert known.take() is None


def test_the_summary_that_was_not_asked_for_longest_is_forgotten() -> None:
    known = summaries()
    histories = [(ChatMessage("user", f"talk {number}"),) for number in range(4)]
    for history in histories[:3]:
        known.keep(job_for(known, history).digests[-1], history[0].content)
    known.find(histories[0])
    known.keep(job_for(known, histories[3]).digests[-1], "talk 3")
    assert [known.find(history)[0] for history in histories] == ["talk 0", "", "talk 2", "talk 3"]


@pytest.mark.parametrize(
    "other",
    [
        ChatMessage("assistant", "ab"),
        ChatMessage("user", "a"),
        ChatMessage("user", "ab", extra="{}"),
        ChatMessage("user", "a", extra="b"),
        ChatMessage("user", "\ud800"),
    ],
)
def test_another_message_is_another_history(other: ChatMessage) -> None:
    known = summaries()
    known.keep(job_for(known, (ChatMessage("user", "ab"),)).digests[-1], "notes")
    assert known.find((other,))[0] == ""
    assert known.find((ChatMessage("user", "ab"), other))[0] == "notes"


def test_the_settings_choose_the_recall() -> None:
    def make(recall: Any) -> object:
        engine = cast("Engine", NotingEngine())
        return make_recall(BudgetSettings(recall=recall), engine, clock=ManualClock(), metrics=Metrics())

    assert make("none") is None
    assert isinstance(make("relevance"), RelevanceRecall)
    assert isinstance(make("summary"), SummaryRecall)


async def test_relevance_has_nothing_to_start_or_close() -> None:
    recall = RelevanceRecall(len, max_tokens=1)
    await recall.start()
    await recall.aclose()


async def test_an_engine_of_the_house_sums_up() -> None:
    settings = SimulatedSettings(load_seconds=0, first_token_seconds=0, token_seconds=0, reply_tokens=30)
    engine = SimulatedEngine(settings, model="noting", max_model_len=1000)
    await engine.start(lambda *_: None)
    recall = SummaryRecall(engine, max_tokens=20, clock=SystemClock(), metrics=Metrics())
    await recall.start()
    try:
        recall.text_for(turns(3), "q")
        await until(lambda: recall.text_for(turns(3), "q"))
        assert len(recall.text_for(turns(3), "q").split()) == 20
        assert engine.pulse().num_unfinished == 0
    finally:
        await recall.aclose()
        await engine.aclose()
