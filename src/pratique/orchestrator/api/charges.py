"""What a reply costs its principal: reserved before the message is stored, settled once the reply has ended.

The estimate is the text at three characters a token and the most the reply may have; what comes before it in the
conversation is not known yet and is counted at the end, by the usage that the engine reports. Who dies in between
settles nothing: the reservation ends by itself. Where the end cannot be read the estimate stays.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pratique.core.errors import CallerError, RefusedError
from pratique.core.events import get_logger
from pratique.orchestrator.access.limits.interface import Unlimited
from pratique.orchestrator.protocol.encode import decode_generation_event
from pratique.orchestrator.protocol.events import Ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.access.limits.interface import Limiter
    from pratique.orchestrator.sessions.feed import Feed

__all__ = ["Charges", "estimate_tokens"]

_logger = get_logger("api")
_CHARACTERS_PER_TOKEN = 3
_DIGEST_LENGTH = 32


def estimate_tokens(text: str, *, max_tokens: int) -> int:
    """Return what a message is taken to cost until its reply has ended."""
    return len(text) // _CHARACTERS_PER_TOKEN + 1 + max_tokens


class Charges:
    """The reservations of one replica's replies."""

    def __init__(self, limiter: Limiter, *, max_tokens: int = 512) -> None:
        """Charge by a limiter; `max_tokens` is what a reply may have where its message does not say."""
        self._limiter = limiter
        self._max_tokens = max_tokens
        self._is_free = isinstance(limiter, Unlimited)
        self._tasks: asyncio.TaskGroup | None = None
        self._settling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Charges]:
        """Settle beside the body; what has not ended by then ends by itself."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                yield self
            finally:
                self._tasks = None
                for task in self._settling:
                    task.cancel()

    @asynccontextmanager
    async def reserved(
        self,
        principal: Principal,
        message_id: str,
        *,
        conversation_id: str | None = None,
        text: str = "",
        max_tokens: int | None = None,
    ) -> AsyncIterator[str]:
        """Reserve for the body, which stores the message; give the tokens back where it was refused.

        Yields the reservation's id, which names all that was asked: the same message id with another text is another
        reservation, so that refusing it gives nothing back of the first one's. A repetition's refusal gives nothing
        back either, for its reply may be running.

        Where it is not known whether it was stored (the store is away, the connection is being closed) they stay
        taken: the message may be answered all the same, and when it is sent again it is not charged again.

        Raises:
            LimitExceededError, LimitsUnavailableError.
        """
        if self._is_free:
            yield ""
            return
        tokens = estimate_tokens(text, max_tokens=max_tokens or self._max_tokens)
        asked = f"{conversation_id or ''}\0{text}".encode(errors="surrogatepass")
        reservation_id = f"{message_id}:{hashlib.sha256(asked).hexdigest()[:_DIGEST_LENGTH]}"
        is_new = await self._limiter.reserve(principal, reservation_id, tokens=tokens)
        try:
            yield reservation_id
        except BaseException as error:
            if is_new:
                tokens_used = 0 if isinstance(error, CallerError | RefusedError) else None
                await asyncio.shield(self._limiter.settle(principal, reservation_id, tokens=tokens_used))
            raise

    def settle_at_end(self, principal: Principal, reservation_id: str, feed: Feed | None) -> None:
        """Settle once the reply has ended; no feed: it has, and what it used is not known any more."""
        if self._is_free or self._tasks is None:
            return
        task = self._tasks.create_task(self._settle(principal, reservation_id, feed))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, principal: Principal, reservation_id: str, feed: Feed | None) -> None:
        # This task must not fail: it would take its group and with it the replica along.
        try:
            if feed is not None:
                await feed.wait_over()
            tokens = _used(feed)
        except Exception:
            _logger.exception("usage_unreadable", principal_id=principal.principal_id)
            tokens = None
        try:
            await self._limiter.settle(principal, reservation_id, tokens=tokens)
        except Exception:
            _logger.exception("reservation_not_settled", principal_id=principal.principal_id)


def _used(feed: Feed | None) -> int | None:
    """Return the tokens that a reply used, None where that is not known."""
    if feed is None or not feed.has_ended:
        return None
    event = decode_generation_event(feed.after(feed.last_seq - 1)[0].data)
    if not isinstance(event, Ended) or event.usage is None:
        return None
    return event.usage.prompt_tokens + event.usage.completion_tokens
