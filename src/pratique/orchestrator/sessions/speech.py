"""The middle of a reply: attempts at the model servers, each going on right after the text so far.

Knows nothing of leases and stores: it is given what was said, hands events over as they come, and returns how it ended.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pratique.core.events import get_logger
from pratique.orchestrator.protocol.events import EventError, FinishReason, ReplyDetails, Source, Turn, Usage
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.sessions.attempts import Attempts, GiveUp, loss_of
from pratique.orchestrator.upstream.history import assemble_history
from pratique.orchestrator.upstream.interface import (
    UpstreamEnd,
    UpstreamInterruptedError,
    UpstreamRefusedError,
    UpstreamRequest,
    UpstreamStart,
    UpstreamTimeoutError,
    UpstreamToken,
    UpstreamUnavailableError,
)

if TYPE_CHECKING:
    from pratique.orchestrator.conversations.interface import GenerationRecord
    from pratique.orchestrator.retrieval.interface import Passage
    from pratique.orchestrator.sessions.attempts import Attempt
    from pratique.orchestrator.sessions.transcript import Transcript
    from pratique.orchestrator.sessions.workshop import Workshop
    from pratique.orchestrator.sessions.writer import LogWriter
    from pratique.orchestrator.upstream.interface import HistoryTurn

__all__ = ["Ending", "Speech"]

_logger = get_logger("sessions")
_EVENT_BYTES: Final = 512
"""More than an event has beside its text."""
_CHARACTER_BYTES: Final = 6
"""The most that a character has in JSON: \\u0000."""
_UPSTREAM_ERRORS = (
    UpstreamUnavailableError,
    UpstreamInterruptedError,
    UpstreamTimeoutError,
    UpstreamRefusedError,
)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a reply ended."""

    finish_reason: FinishReason
    error: EventError | None = None
    usage: Usage | None = None


class Speech:
    """What a model says to one user turn."""

    def __init__(
        self,
        workshop: Workshop,
        record: GenerationRecord,
        transcript: Transcript,
        writer: LogWriter,
        *,
        resumed_because: str,
    ) -> None:
        self._workshop = workshop
        self._record = record
        self._transcript = transcript
        self._writer = writer
        self._max_bytes = workshop.settings.max_bytes
        self._reason = resumed_because
        self._began = workshop.clock.monotonic()
        self._was_silent = not transcript.has_text
        self._passages: tuple[Passage, ...] = ()
        self._degraded: tuple[str, ...] = ()

    async def run(self) -> Ending:
        """Speak to the end. Raises what the writer's `emit` raises, and the store when it is asked for the history."""
        query, history = await self._recall_conversation()
        self._passages = await self._retrieve(query)
        attempts = Attempts(self._workshop.settings.limits, num_losses=self._transcript.num_continued)
        while True:
            try:
                return await self._attempt(query, history, attempts)
            except _UPSTREAM_ERRORS as error:
                verdict = attempts.assess(
                    error, has_text=self._transcript.has_text, now=self._workshop.clock.monotonic()
                )
                self._workshop.instruments.losses.labels(loss=loss_of(error).value).inc()
                _logger.info("attempt_failed", error=error.message, code=error.code, verdict=str(verdict))
            if isinstance(verdict, GiveUp):
                return Ending(finish_reason=verdict.finish_reason, error=verdict.error, usage=self.usage())
            await self._workshop.clock.sleep(verdict.jittered_seconds(random.random()))  # noqa: S311 - jitter
            self._reason = "model_server_lost" if self._transcript.has_text else self._reason

    def usage(self) -> Usage | None:
        """Count what was said so far, as far as it can be seen from here."""
        said = self._transcript
        if not said.has_started:
            return None
        return Usage(prompt_tokens=said.prompt_tokens, completion_tokens=said.num_tokens)

    async def _recall_conversation(self) -> tuple[str, tuple[HistoryTurn, ...]]:
        return assemble_history(
            await self._recall_turns(),
            user_turn_id=self._record.user_turn_id,
            limit=self._workshop.settings.history_turns_limit,
        )

    async def _recall_turns(self) -> tuple[Turn, ...]:
        # What stands before a turn never changes: a cached conversation that has the turn is as good as the stored one.
        name, workshop = self._record.conversation_id, self._workshop
        if workshop.recall is not None:
            turns = (await workshop.recall(name)).conversation.turns
            if any(turn.turn_id == self._record.user_turn_id for turn in turns):
                return turns
        return (await workshop.store.load_conversation(name)).conversation.turns

    async def _retrieve(self, query: str) -> tuple[Passage, ...]:
        """Find passages; without an index that answers the reply is made without, and says so."""
        retriever = self._workshop.retriever
        if retriever is None:
            return ()
        try:
            return await retriever.search(query, limit=self._workshop.settings.passages_limit)
        except RetrievalUnavailableError as error:
            _logger.warning("replying_without_retrieval", error=error.message)
            self._degraded = ("retrieval",)
            return ()

    def _details(self, start: UpstreamStart) -> ReplyDetails | None:
        details = ReplyDetails(
            route=start.route,
            sources=tuple(Source(source_id=p.source_id, title=p.title, url=p.url) for p in self._passages),
            notice=start.notice,
            degraded=self._degraded + start.degraded + (("reduced_context",) if start.is_reduced else ()),
        )
        return None if details == ReplyDetails() else details

    async def _attempt(self, query: str, history: tuple[HistoryTurn, ...], attempts: Attempts) -> Ending:
        num_before = self._transcript.num_tokens
        is_continuation = self._transcript.has_text
        left = self._max_tokens - num_before
        if left <= 0 or self._is_too_large():
            return Ending(finish_reason=FinishReason.LENGTH, usage=self.usage())
        attempt = attempts.begin(has_text=is_continuation, now=self._workshop.clock.monotonic())
        request = self._request(query, history, attempt, max_tokens=left)
        async with self._workshop.upstream.open(request) as stream:
            async for event in stream:
                if isinstance(event, UpstreamStart):
                    await self._writer.emit(
                        self._transcript.continued(self._reason)
                        if is_continuation
                        else self._transcript.started(event, self._details(event))
                    )
                elif isinstance(event, UpstreamToken):
                    await self._say(event.text, attempts)
                    if self._is_too_large():
                        return Ending(finish_reason=FinishReason.LENGTH, usage=self.usage())
                    if self._transcript.num_tokens > num_before:
                        stream.hand_on(self._take)
                else:
                    return self._complete(event, num_before)
        raise UpstreamInterruptedError("The model server's stream was over before the end of the reply.")

    async def _say(self, text: str, attempts: Attempts) -> None:
        if not text:
            return
        attempts.progressed()
        if self._was_silent:
            self._was_silent = False
            waited = self._workshop.clock.monotonic() - self._began
            self._workshop.instruments.first_token_seconds.observe(waited)
        await self._writer.emit(self._transcript.token(text))

    def _take(self, text: str) -> bool:
        """Take text in the callback that it came with; False for what `_say` is to wait with, or the last one."""
        num_bytes = self._transcript.num_bytes + _CHARACTER_BYTES * len(text) + _EVENT_BYTES
        if not text or num_bytes >= self._max_bytes or not self._writer.has_room:
            return False
        self._writer.offer(self._transcript.token(text))
        return True

    def _complete(self, end: UpstreamEnd, num_before: int) -> Ending:
        # What earlier attempts said is part of the prompt of this one; it is counted as said, once.
        prompt_tokens = self._transcript.prompt_tokens if num_before else end.prompt_tokens
        return Ending(
            finish_reason=FinishReason.LENGTH if end.finish_reason == "length" else FinishReason.STOP,
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=num_before + end.completion_tokens),
        )

    @property
    def _max_tokens(self) -> int:
        return self._record.options.max_tokens or self._workshop.settings.max_tokens

    def _is_too_large(self) -> bool:
        return self._transcript.num_bytes >= self._max_bytes

    def _request(
        self, query: str, history: tuple[HistoryTurn, ...], attempt: Attempt, *, max_tokens: int
    ) -> UpstreamRequest:
        settings, temperature = self._workshop.settings, self._record.options.temperature
        details = self._transcript.details
        elapsed = self._workshop.clock.monotonic() - self._began
        return UpstreamRequest(
            request_id=self._workshop.ids.new("req"),
            conversation_id=self._record.conversation_id,
            query=query,
            system_prompt=settings.system_prompt,
            history=history,
            passages=tuple(passage.text for passage in self._passages),
            model=self._record.options.model or "",
            prefix=self._transcript.text,
            max_tokens=max_tokens,
            temperature=settings.temperature if temperature is None else temperature,
            timeout_seconds=max(0.001, settings.reply_timeout_seconds - elapsed),
            first_text_seconds=None if self._transcript.has_text else attempt.first_text_seconds,
            is_retry=attempt.is_retry,
            # A retry tries its luck with another server than the one that is likely stuck.
            affinity=f"{self._record.conversation_id}-{attempt.number}" if attempt.is_retry else "",
            route=details.route if details else None,
        )
