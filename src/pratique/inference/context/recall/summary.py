"""Recall by summary: the model itself sums up, in the background, what was left out of earlier prompts.

`text_for` never waits. It returns the newest summary of the oldest turns that are left out, or "" where there is none
yet, and asks for the one that is missing. One task makes them, one at a time, the longest waiting first:

1. it waits until the engine has nothing else to do, so that no customer's request queues behind a summary,
2. it has the model sum up the last summary and the turns since, as many whole turns as a prompt takes,
3. it keeps what came within the deadline; what failed is logged and counted, and asked for again by the next prompt.

An engine that dies takes one summary with it; the task goes on once `may_run` says so again. The requests go to the
engine itself, not through the gate, so they are in none of our counters of customers' requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Final

from pratique.core.catalogue.recall import SUMMARIES, SUMMARY_LOOKUPS
from pratique.core.clock import Clock
from pratique.core.events import get_logger
from pratique.core.metrics import Metrics
from pratique.inference.context.recall._summaries import Job, Summaries
from pratique.inference.context.recall._words import clip
from pratique.inference.engines.interface import ChatMessage, Engine, GenerateRequest
from pratique.inference.errors import EngineError

__all__ = ["SummaryLimits", "SummaryRecall"]

_LOG = get_logger("recall")
_INSTRUCTION: Final = (
    "You keep notes of a conversation. Write what must not be forgotten of it: names, numbers, ids, decisions, and "
    "what the user wants. Short plain sentences, in the language of the conversation. Nothing that was not said."
)
_SPEAKER: Final = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}


@dataclass(frozen=True, kw_only=True)
class SummaryLimits:
    """Bounds of the work in the background."""

    max_summaries: int = 512
    max_jobs: int = 16
    deadline_seconds: float = 60.0
    """For one summary, from its first token asked to its last."""
    poll_seconds: float = 0.25
    """How often a waiting job looks whether the engine is idle."""


class SummaryRecall:
    """Implements `Recall` with an engine; owns the task that makes the summaries."""

    def __init__(
        self,
        engine: Engine,
        *,
        max_tokens: int,
        clock: Clock,
        metrics: Metrics,
        may_run: Callable[[], bool] | None = None,
        limits: SummaryLimits | None = None,
    ) -> None:
        self._engine = engine
        self._max_tokens = max_tokens
        self._clock = clock
        # Made here: two threads that ask for a new instrument at once would make it twice.
        self._outcomes = metrics.counter(SUMMARIES)
        self._lookups = metrics.counter(SUMMARY_LOOKUPS)
        self._limits = limits or SummaryLimits()
        self._may_run = may_run or self._is_idle
        self._summaries = Summaries(
            max_summaries=self._limits.max_summaries,
            max_jobs=self._limits.max_jobs,
            # More characters than tokens go into a prompt; four are usual, ten would be a text of long words.
            max_job_characters=10 * engine.max_model_len,
        )
        self._numbers = count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to make what is asked for."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="summaries")

    async def aclose(self) -> None:
        """Stop, in the middle of a summary too. What was made is still found."""
        task, self._task, self._loop = self._task, None, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def text_for(self, dropped: tuple[ChatMessage, ...], query: str) -> str:
        """Return what is known of the oldest of the turns that were left out. Safe to use from several threads."""
        del query  # a summary is of everything; RelevanceRecall answers to the query
        if not dropped or not self._max_tokens:
            return ""
        text, job = self._summaries.find(dropped)
        found = "none" if not text else "part" if job else "whole"
        self._lookups.labels(model=self._engine.model, found=found).inc()
        if job is not None:
            num_superseded, num_crowded_out = self._summaries.ask(job)
            self._count("superseded", num_superseded)
            self._count("crowded_out", num_crowded_out)
            self._wake()
        return text

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            # A prompt that is fitted in a thread while the server closes finds the loop gone.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._asked.set)

    async def _run(self) -> None:
        while True:
            self._asked.clear()
            if not self._summaries.num_jobs:
                await self._asked.wait()
            while not self._may_run():
                await self._clock.sleep(self._limits.poll_seconds)
            job = self._summaries.take()
            if job is not None:
                await self._make(job)

    async def _make(self, job: Job) -> None:
        """Make one summary; whatever goes wrong with it is its own end, not the task's."""
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                num_messages, text = await self._sum_up(job)
        except TimeoutError:
            self._lost(job, "timeout", f"not done within {self._limits.deadline_seconds} s")
        except EngineError as error:
            self._lost(job, "failed", error.message)
        except Exception as error:  # noqa: BLE001 - a fault of one prompt must not end the summaries of all others
            self._lost(job, "failed", f"{type(error).__name__}: {error}")
        else:
            if text:
                self._summaries.keep(job.digests[num_messages - 1], text)
            self._count("made" if text else "empty", 1)

    async def _sum_up(self, job: Job) -> tuple[int, str]:
        """Return how many of the job's messages the summary covers, and the summary."""
        num_messages, prompt, messages = await asyncio.to_thread(self._prompt, job)
        request = GenerateRequest(
            request_id=f"summary-{next(self._numbers)}", prompt=prompt, max_tokens=self._max_tokens, messages=messages
        )
        pieces: list[str] = []
        async with aclosing(self._engine.generate(request)) as stream:
            pieces.extend([piece.text async for piece in stream])
        return num_messages, await asyncio.to_thread(self._within, " ".join("".join(pieces).split()))

    def _prompt(self, job: Job) -> tuple[int, list[int], tuple[ChatMessage, ...]]:
        """Return how many messages fit, and the prompt of them. One that alone is too long is taken in part."""
        room = self._engine.max_model_len - self._max_tokens
        num_messages, characters = len(job.messages), None
        while True:
            messages = _messages(job.previous, job.messages[:num_messages], characters)
            ids = self._engine.encode(messages)
            if len(ids) <= room:
                return num_messages, ids, messages
            if num_messages > 1:
                num_messages //= 2
            else:
                characters = (len(job.messages[0].content) if characters is None else characters) // 2
                if not characters:
                    raise EngineError(f"A prompt of {room} tokens has no room for the instruction to sum up.")

    def _within(self, text: str) -> str:
        """Return the text, or so much of it that it takes no more tokens than a recall may."""
        while text and self._engine.count(text) > self._max_tokens:
            text = clip(text, len(text) * 9 // 10)
        return text

    def _is_idle(self) -> bool:
        try:
            self._engine.check()
        except EngineError:
            return False
        return self._engine.pulse().num_unfinished == 0

    def _lost(self, job: Job, outcome: str, why: str) -> None:
        self._count(outcome, 1)
        _LOG.warning("summary_lost", model=self._engine.model, outcome=outcome, turns=len(job.messages), error=why)

    def _count(self, outcome: str, number: int) -> None:
        if number:
            self._outcomes.labels(model=self._engine.model, outcome=outcome).inc(number)


def _messages(previous: str, messages: tuple[ChatMessage, ...], max_characters: int | None) -> tuple[ChatMessage, ...]:
    notes = [f"Notes so far:\n{previous}", "What was said since:"] if previous else ["What was said:"]
    lines = [f"{_SPEAKER[message.role]}: {_ends(message.content, max_characters)}" for message in messages]
    return (
        ChatMessage("system", _INSTRUCTION),
        ChatMessage("user", "\n\n".join([*notes, *lines, "Write the notes anew, the old ones and the new in one."])),
    )


def _ends(text: str, max_characters: int | None) -> str:
    """Return the beginning and the end of a text that is too long: what it is about, and what it comes to."""
    if max_characters is None:
        return text
    half = max_characters // 2
    tail = text[len(text) - half :].partition(" ")[2]
    return f"{clip(text, half)} … {tail}"
