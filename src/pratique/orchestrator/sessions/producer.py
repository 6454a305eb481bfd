"""Makes one reply: the only writer of its log, the only one who finishes it in the store.

The steps, each labelled below:
1. Take the lease in the log, then claim the reply in the store with the lease's epoch: everybody older is fenced.
2. Recall what was said already, where this is a takeover.
3. Speak, until the reply is complete, given up, or somebody says stop.
4. Settle: every token is in the log and before the readers.
5. Finish in the store, durably; only then
6. say `ended`. Lost between 5 and 6, the next producer says it from the store.

A producer that learns it was fenced stops where it is and writes nothing more.
"""

from __future__ import annotations

import asyncio
import enum
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pratique.core.errors import PratiqueError
from pratique.core.events import bound_contextvars, get_logger
from pratique.orchestrator.conversations.errors import (
    GenerationFinishedError,
    GenerationNotFoundError,
    StoreUnavailableError,
)
from pratique.orchestrator.conversations.interface import Outcome
from pratique.orchestrator.protocol.events import EventError, FinishReason
from pratique.orchestrator.sessions.log.interface import FencedError, Lease, LogMissingError, LogUnavailableError
from pratique.orchestrator.sessions.speech import Ending, Speech
from pratique.orchestrator.sessions.transcript import Transcript
from pratique.orchestrator.sessions.writer import LogWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pratique.orchestrator.conversations.interface import GenerationRecord
    from pratique.orchestrator.sessions.feed import Feed
    from pratique.orchestrator.sessions.workshop import Workshop

__all__ = ["Producer", "StopReason"]

_logger = get_logger("sessions")
_STORE_RETRY_SECONDS = 0.2
_STORE_RETRY_LONGEST_SECONDS = 2.0


class StopReason(enum.Enum):
    """Why a producer is told to stop."""

    CANCELLED = "cancelled"
    """By its user: store what there is."""
    HANDED_OVER = "handed_over"
    """This replica goes away: release the lease, another one goes on."""


class Producer:
    """One reply in the making, on this replica."""

    def __init__(self, workshop: Workshop, record: GenerationRecord, feed: Feed, *, is_takeover: bool = False) -> None:
        self._workshop = workshop
        self._record = record
        self._feed = feed
        self._is_takeover = is_takeover
        self._transcript = Transcript(record.conversation_id, record.generation_id)
        self._stop: asyncio.Future[StopReason] = asyncio.get_running_loop().create_future()
        self._lease: Lease | None = None
        self._writer: LogWriter | None = None

    @property
    def is_feed_ahead(self) -> bool:
        """Whether readers here saw what no other replica can know."""
        return self._writer is not None and self._writer.is_behind

    def stop(self, reason: StopReason) -> None:
        """Ask it to stop; the first reason counts."""
        if not self._stop.done():
            self._stop.set_result(reason)

    async def run(self) -> None:
        """Make the reply.

        Raises:
            LeaseHeldError, LogEndedError: somebody else makes it, or it is made.
            FencedError (of the log or the store): overtaken.
            GenerationNotFoundError: its conversation was deleted.
            LogUnavailableError, StoreUnavailableError: it cannot be known who makes it; the lease is released.
        """
        record = self._record
        with bound_contextvars(generation_id=record.generation_id, conversation_id=record.conversation_id):
            lease = self._lease = await self._take_lease()  # 1
            try:
                was_spoken = await self._claim(lease)
                ending = await self._recall(lease, was_spoken=was_spoken)  # 2
                await self._produce(lease, ending)
            except GenerationFinishedError as finished:
                await self._say_stored_end(lease, finished.record)
            except GenerationNotFoundError:
                await self._forget()
                raise
            except StoreUnavailableError:
                await self._release(lease)
                raise

    async def _take_lease(self) -> Lease:
        floor = self._record.epoch + 1
        try:
            return await self._workshop.log.acquire(self._record.generation_id, floor=floor)
        except LogUnavailableError:
            # A reply that nobody ever began can be begun without the log; any other may be made somewhere right now.
            if self._record.epoch > 0:
                raise
            _logger.warning("generation_begun_without_log")
            return Lease(generation_id=self._record.generation_id, epoch=floor, last_seq=0, is_new=True)

    async def _claim(self, lease: Lease) -> bool:
        """Fence the others; return whether somebody claimed it before."""
        was_claimed = self._record.epoch > 0
        self._record = await self._workshop.store.claim(
            lease.generation_id, epoch=lease.epoch, holder=self._workshop.holder
        )
        return was_claimed

    async def _recall(self, lease: Lease, *, was_spoken: bool) -> Ending | None:
        if not lease.is_new:
            page = await self._workshop.log.read(lease.generation_id, after_seq=0)
            self._transcript.replay(page.entries)
            self._feed.publish(page.entries)
        elif was_spoken:
            # Somebody spoke, and what was said is lost. Another answer would be a second one: say that it broke off.
            message = "What was said of this reply is lost; it ends here."
            error = EventError(code="interrupted", message=message, hint="Try again.")
            return Ending(finish_reason=FinishReason.ERROR, error=error)
        return None

    async def _produce(self, lease: Lease, ending: Ending | None) -> None:
        writer = self._writer = self._make_writer(lease)
        speech = Speech(
            self._workshop,
            self._record,
            self._transcript,
            writer,
            resumed_because="orchestrator_lost" if self._is_takeover else "model_server_lost",
        )
        async with _running(writer, self.stop) as writing:
            if ending is None:
                ending = await self._listen(speech, writing)  # 3
            await writer.settle()  # 4
            if ending is not None:
                await self._finish(writer, ending)
                return
        # Only now, when nothing renews it any more.
        await self._release(lease)

    def _make_writer(self, lease: Lease) -> LogWriter:
        return LogWriter(
            self._workshop.log,
            lease,
            self._feed,
            confirm=lambda: self._claim(lease),
            settings=self._workshop.settings.writer,
            clock=self._workshop.clock,
            instruments=self._workshop.instruments,
            windows=self._workshop.windows,
        )

    async def _listen(self, speech: Speech, writing: asyncio.Future[None]) -> Ending | None:
        """Return how the reply ended, or None where it is handed over; raise what the writer found."""
        if not self._stop.done():
            speaking = asyncio.ensure_future(self._speak(speech))
            try:
                watched: set[asyncio.Future[Any]] = {speaking, writing, self._stop}
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _cancel(speaking)
            if writing.done():
                writing.result()
            if not speaking.cancelled():
                return speaking.result()
        if self._stop.result() is StopReason.HANDED_OVER:
            return None
        return Ending(finish_reason=FinishReason.CANCELLED, usage=speech.usage())

    async def _speak(self, speech: Speech) -> Ending:
        try:
            return await speech.run()
        except PratiqueError:
            raise
        except Exception:
            # A fault of ours must end the reply here, or each takeover would repeat it, for ever.
            _logger.exception("generation_failed_inside")
            error = EventError(code="engine_error", message="Something went wrong inside the service.")
            return Ending(finish_reason=FinishReason.ERROR, error=error, usage=speech.usage())

    async def _finish(self, writer: LogWriter, ending: Ending) -> None:
        said = self._transcript
        outcome = Outcome(
            text=said.text,
            finish_reason=ending.finish_reason,
            usage=ending.usage,
            error=ending.error,
            was_truncated=said.was_truncated,
            turns_dropped=said.turns_dropped,
            model=said.model,
            details=said.details,
        )
        record = await self._store(outcome)  # 5
        await self._say_end(writer, record)  # 6
        self._workshop.instruments.ended.labels(finish_reason=ending.finish_reason.value).inc()
        _logger.info("generation_ended", finish_reason=ending.finish_reason.value, num_tokens=said.num_tokens)

    async def _store(self, outcome: Outcome) -> GenerationRecord:
        """Finish in the store. While it is away this waits, and the lease is kept: nothing is said to have ended."""
        delay = _STORE_RETRY_SECONDS
        while True:
            try:
                finished = await self._workshop.store.finish(
                    self._record.generation_id, epoch=self._record.epoch, outcome=outcome
                )
            except StoreUnavailableError as error:
                if self._stop.done() and self._stop.result() is StopReason.HANDED_OVER:
                    raise
                _logger.warning("reply_not_stored_yet", error=error.message)
                await self._workshop.clock.sleep(delay)
                delay = min(2 * delay, _STORE_RETRY_LONGEST_SECONDS)
                continue
            await self._workshop.written(finished.conversation)
            return finished.generation

    async def _say_stored_end(self, lease: Lease, record: GenerationRecord) -> None:
        """It was finished in the store and nobody said so: say it."""
        try:
            page = await self._workshop.log.read(lease.generation_id, after_seq=0)
        except (LogMissingError, LogUnavailableError):
            self._feed.lose()
            return
        if self._transcript.has_ended and self._writer is not None:
            # It was we who finished it, and the log was not there when it was to be told: it is there now.
            await self._writer.settle()
            return
        if self._transcript.last_seq == 0:
            self._transcript.replay(page.entries)
            self._feed.publish(page.entries)
        writer = self._writer or self._make_writer(lease)
        await self._say_end(writer, record)

    async def _say_end(self, writer: LogWriter, record: GenerationRecord) -> None:
        outcome = record.outcome
        if outcome is None:
            raise ValueError(f"The generation {record.generation_id} was said to be finished and is not.")
        said = self._transcript.text
        if not outcome.text.startswith(said):
            # Readers saw something else than what is stored: they are shown the conversation as it is.
            _logger.error("reply_differs_from_store", num_said=len(said), num_stored=len(outcome.text))
            self._feed.lose()
        elif len(outcome.text) > len(said):
            await writer.emit(self._transcript.token(outcome.text[len(said) :]))
        await writer.emit(
            self._transcript.ended(
                outcome.finish_reason, turn_id=record.turn_id, usage=outcome.usage, error=outcome.error
            )
        )
        await writer.settle()

    async def _forget(self) -> None:
        self._feed.lose()
        try:
            await self._workshop.log.forget(self._record.generation_id)
        except LogUnavailableError:
            _logger.info("log_of_deleted_conversation_left_to_expire")

    async def _release(self, lease: Lease) -> None:
        try:
            await self._workshop.log.release(lease)
        except (LogUnavailableError, FencedError):
            _logger.info("lease_left_to_expire")


@asynccontextmanager
async def _running(writer: LogWriter, stop: Callable[[StopReason], None]) -> AsyncIterator[asyncio.Future[None]]:
    """Run the writer's tasks beside the body; yield the one that reports what the log said."""
    writing = asyncio.ensure_future(writer.run())
    tasks = [writing, asyncio.ensure_future(writer.keep()), asyncio.ensure_future(_relay_cancel(writer, stop))]
    try:
        yield writing
    finally:
        await _cancel(*tasks)


async def _relay_cancel(writer: LogWriter, stop: Callable[[StopReason], None]) -> None:
    await writer.cancel_requested.wait()
    stop(StopReason.CANCELLED)


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
