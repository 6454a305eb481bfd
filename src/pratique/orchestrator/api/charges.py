"""What a reply costs its principal: reserved before the message is stored, settled once the reply has ended.

The estimate is the text at three characters a token and the most the reply may have; what comes before it in the
conversation is not known yet and is counted at the end, by the usage that the engine reports. Whoever stored a message
pays for its reply, and only the call that reserved settles: a repetition takes nothing and gives nothing back. Who dies
in between settles nothing: the reservation ends by itself. Where the end cannot be read the estimate stays.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pratique.core.errors import CallerError, EnvironmentFaultError, RefusedError
from pratique.core.events import get_logger
from pratique.orchestrator.access.limits.interface import Reservation, Unlimited
from pratique.orchestrator.protocol.encode import decode_generation_event
from pratique.orchestrator.protocol.events import Ended, FinishReason, Started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.access.limits.interface import Limiter
    from pratique.orchestrator.conversations.interface import BegunTurn
    from pratique.orchestrator.sessions.feed import Feed

__all__ = ["Charge", "Charges", "estimate_tokens"]

_logger = get_logger("api")
_CHARACTERS_PER_TOKEN = 3


def estimate_tokens(text: str, *, max_tokens: int) -> int:
    """Return what a message is taken to cost until its reply has ended."""
    return len(text) // _CHARACTERS_PER_TOKEN + 1 + max_tokens


class Charge:
    """What one call takes for its message."""

    def __init__(self, charges: Charges, reservation: Reservation) -> None:
        self._charges = charges
        self._wanted = reservation
        self._taken: Reservation | None = None
        self._is_stored = False

    async def take(self, wanted: Reservation) -> None:
        """Reserve; nothing is taken where another call has reserved the same. Raises what `Limiter.reserve` does."""
        self._taken = wanted  # also where this is cancelled before it is known
        try:
            is_taken = await self._charges.limiter.reserve(wanted)
        except (CallerError, RefusedError, EnvironmentFaultError):
            self._taken = None
            raise
        if not is_taken:
            self._taken = None

    async def stored(self, begun: BegunTurn) -> None:
        """This call stored the message: it pays, also where another one has reserved for the same.

        That one finds that its own is a repetition, or its reply was erased while it ran.

        Raises:
            LimitExceededError, LimitsUnavailableError: nobody pays; the reply must not be made.
        """
        self._is_stored = True
        if self._taken is None and not self._charges.is_free:
            wanted = Reservation(principal=self._wanted.principal, name=begun.generation_id, tokens=self._wanted.tokens)
            await self.take(wanted)

    def settle_at_end(self, begun: BegunTurn, feed: Feed) -> None:
        """Settle once the reply has ended."""
        if self._taken is not None and self._charges.settle_at_end(self._taken, begun, feed):
            self._taken = None

    async def close(self, error: BaseException | None) -> None:
        """Settle what no reply has taken over.

        Nothing was used where the message was refused, or was a repetition. Where it is not known whether it was stored
        (the store is away, the connection is being closed) all stays taken: it may be answered all the same.
        """
        taken, self._taken = self._taken, None
        if taken is None:
            return
        is_unused = not self._is_stored and (error is None or isinstance(error, CallerError | RefusedError))
        await asyncio.shield(self._charges.limiter.settle(taken, tokens=0 if is_unused else None))


class Charges:
    """The reservations of one replica's replies."""

    def __init__(self, limiter: Limiter, *, max_tokens: int = 512) -> None:
        """Charge by a limiter; `max_tokens` is what a reply may have where its message does not say."""
        self.limiter = limiter
        self.is_free = isinstance(limiter, Unlimited)
        self._max_tokens = max_tokens
        self._tasks: asyncio.TaskGroup | None = None
        self._waiting: dict[Reservation, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Charges]:
        """Settle beside the body. What has not ended by then goes on elsewhere, if at all: it keeps its estimate."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                yield self
            finally:
                self._tasks = None
                # A task that is cancelled before its first step does nothing at all.
                await asyncio.sleep(0)
                for task in self._waiting.values():
                    task.cancel()

    @asynccontextmanager
    async def reserved(
        self, principal: Principal, message_id: str, *, text: str = "", max_tokens: int | None = None
    ) -> AsyncIterator[Charge]:
        """Reserve for the body, which stores the message and begins its reply; see `Charge`.

        Raises:
            LimitExceededError, LimitsUnavailableError.
        """
        tokens = estimate_tokens(text, max_tokens=max_tokens or self._max_tokens)
        reservation = Reservation(principal=principal, name=message_id, tokens=tokens)
        charge = Charge(self, reservation)
        error: BaseException | None = None
        try:
            if not self.is_free:
                await charge.take(reservation)
            yield charge
        except BaseException as raised:
            error = raised
            raise
        finally:
            await charge.close(error)

    def settle_at_end(self, taken: Reservation, begun: BegunTurn, feed: Feed) -> bool:
        """Settle once the reply has ended; False where nothing waits any more."""
        if self._tasks is None:
            return False
        prompt = sum(len(turn.text) for turn in begun.conversation.conversation.turns) // _CHARACTERS_PER_TOKEN
        completion = begun.generation.options.max_tokens or self._max_tokens
        settling = self._settle(taken, feed, prompt=prompt, completion=completion)
        self._waiting[taken] = self._tasks.create_task(settling)
        return True

    async def _settle(self, taken: Reservation, feed: Feed, *, prompt: int, completion: int) -> None:
        # This task must not fail: it would take its group and with it the replica along.
        tokens: int | None = None
        try:
            await feed.wait_over()
            tokens = _used(feed, prompt=prompt, completion=completion)
        except Exception:
            _logger.exception("usage_unreadable", principal_id=taken.principal.principal_id)
        finally:
            del self._waiting[taken]
            await self._settle_now(taken, tokens)

    async def _settle_now(self, taken: Reservation, tokens: int | None) -> None:
        try:
            await self.limiter.settle(taken, tokens=tokens)
        except Exception:
            _logger.exception("reservation_not_settled", principal_id=taken.principal.principal_id)


def _used(feed: Feed, *, prompt: int, completion: int) -> int | None:
    """Return the tokens that a reply used, None where the estimate has to do.

    Who ends a reply before its engine has counted anything (a cancel, an erasure) has had it read the conversation.
    """
    end = decode_generation_event(feed.after(feed.last_seq - 1)[0].data) if feed.has_ended else None
    if isinstance(end, Ended):
        if end.usage is not None:
            return end.usage.prompt_tokens + end.usage.completion_tokens
        if end.finish_reason is not FinishReason.CANCELLED:
            return None
    begin = [decode_generation_event(entry.data) for entry in feed.after(0)[:1]]
    if begin and isinstance(begin[0], Started):
        prompt = begin[0].prompt_tokens
    return prompt + completion
