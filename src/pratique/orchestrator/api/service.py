"""What the chat does for a principal, whatever the transport: send, retry, resume, cancel, read.

Ownership is checked here, on every call, on what was read; not owned looks exactly like not there. A message is stored
before it is acknowledged, the caches are told before its reply begins. What it may cost is reserved before that.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.access.limits.interface import Unlimited
from pratique.orchestrator.api.charges import Charges
from pratique.orchestrator.conversations.errors import (
    ConversationNotFoundError,
    GenerationNotFoundError,
)
from pratique.orchestrator.conversations.interface import GenerationOptions, GenerationRecord, GenerationStatus
from pratique.orchestrator.conversations.personal import ErasedTotals, erase_steps
from pratique.orchestrator.protocol.encode import decode_generation_event
from pratique.orchestrator.protocol.events import Accepted, Continued, NotResumable, Reconnected
from pratique.orchestrator.sessions.log.interface import LogUnavailableError

if TYPE_CHECKING:
    from pratique.orchestrator.access import Principal
    from pratique.orchestrator.api.charges import Charge
    from pratique.orchestrator.cache.interface import ConversationReader
    from pratique.orchestrator.conversations.interface import (
        BegunTurn,
        ConversationStore,
        Page,
        StoredConversation,
    )
    from pratique.orchestrator.models.catalogue import ModelCatalogue
    from pratique.orchestrator.protocol.frames import Cancel, Message, Resume, Retry
    from pratique.orchestrator.sessions.feed import Feed
    from pratique.orchestrator.sessions.log.interface import LogEntry
    from pratique.orchestrator.sessions.sessions import Sessions

__all__ = ["Answer", "ChatService", "Resumption"]

_CATCH_UP_SECONDS = 2.0
_CONTINUED = b'{"type":"continued"'


@dataclass(frozen=True)
class Answer:
    """A message was accepted; its reply comes from the feed. No feed: it ended and its events are gone."""

    accepted: Accepted
    feed: Feed | None


@dataclass(frozen=True)
class Resumption:
    """What a `resume` is answered with, and what follows."""

    first: Reconnected | NotResumable
    feed: Feed | None
    after_seq: int = 0


class ChatService:
    """One replica's chat."""

    def __init__(
        self,
        store: ConversationStore,
        reader: ConversationReader,
        sessions: Sessions,
        models: ModelCatalogue,
        *,
        charges: Charges | None = None,
    ) -> None:
        self._store = store
        self._reader = reader
        self._sessions = sessions
        self._models = models
        self._charges = charges or Charges(Unlimited())

    async def send(self, principal: Principal, message: Message) -> Answer:
        """Store a message and begin its reply; one that was sent before is answered by the same reply.

        Raises:
            UnknownModelError, ModelNeededError, OverloadedError, LimitExceededError, and what
            `ConversationStore.begin_turn` raises.
        """
        self._models.verify_named(message.model)
        self._sessions.verify_room()
        async with self._charges.reserved(
            principal, message.client_message_id, text=message.text, max_tokens=message.max_tokens
        ) as charge:
            begun = await self._store.begin_turn(
                owner=principal.principal_id,
                conversation_id=ConversationId(message.conversation_id) if message.conversation_id else None,
                client_message_id=message.client_message_id,
                text=message.text,
                options=GenerationOptions(
                    max_tokens=message.max_tokens, temperature=message.temperature, model=message.model
                ),
            )
            return await self._begin(begun, message.client_message_id, charge)

    async def retry(self, principal: Principal, retry: Retry) -> Answer:
        """Begin another reply to the last user turn; raises like `send`, and NothingToRetryError."""
        self._sessions.verify_room()
        async with self._charges.reserved(principal, retry.client_message_id) as charge:
            begun = await self._store.begin_retry(
                owner=principal.principal_id,
                conversation_id=ConversationId(retry.conversation_id),
                client_message_id=retry.client_message_id,
            )
            return await self._begin(begun, retry.client_message_id, charge)

    async def resume(self, owner: PrincipalId, resume: Resume) -> Resumption:
        """Find what a client missed.

        Raises:
            ConversationNotFoundError, GenerationNotFoundError, StoreUnavailableError.
        """
        conversation_id = ConversationId(resume.conversation_id)
        stored = await self.conversation(owner, conversation_id)
        name = resume.generation_id or stored.conversation.active_generation_id
        if name is None:
            return Resumption(Reconnected(conversation_id=conversation_id, generation_id=None, last_seq=0), None)
        record = await self._owned_generation(owner, GenerationId(name))
        if record.conversation_id != conversation_id:
            raise GenerationNotFoundError(name)
        feed = await self._find(record)
        after_seq = resume.last_seq if resume.generation_id else 0
        if feed is None or not await _reaches(feed, after_seq):
            return Resumption(await self.snapshot(owner, conversation_id, GenerationId(name)), None)
        first = Reconnected(conversation_id=conversation_id, generation_id=name, last_seq=after_seq)
        return Resumption(first, feed, after_seq)

    async def cancel(self, owner: PrincipalId, cancel: Cancel) -> bool:
        """Stop a reply; False where it had ended.

        Raises:
            GenerationNotFoundError, StoreUnavailableError, LogUnavailableError.
        """
        record = await self._owned_generation(owner, GenerationId(cancel.generation_id))
        return await self._sessions.cancel(record)

    async def snapshot(
        self, owner: PrincipalId, conversation_id: ConversationId, generation_id: GenerationId | None
    ) -> NotResumable:
        """Say that a reply's events are gone, with the conversation as stored."""
        stored = await self._reader.refresh(conversation_id)
        _verify_owner(stored, owner)
        return NotResumable(
            conversation_id=conversation_id, generation_id=generation_id, conversation=stored.conversation
        )

    async def conversation(self, owner: PrincipalId, conversation_id: ConversationId) -> StoredConversation:
        """Return one conversation; raises ConversationNotFoundError, StoreUnavailableError."""
        stored = await self._reader.get(conversation_id)
        _verify_owner(stored, owner)
        return stored

    async def conversations(self, owner: PrincipalId, *, limit: int, before: str | None) -> Page:
        """Return a page of the owner's list; raises InvalidCursorError, StoreUnavailableError."""
        return await self._store.list_conversations(owner=owner, limit=limit, before=before)

    async def rename(self, owner: PrincipalId, conversation_id: ConversationId, title: str) -> StoredConversation:
        """Give a conversation another title; raises what the store raises."""
        stored = await self._store.rename(owner=owner, conversation_id=conversation_id, title=title)
        await self._reader.written(stored)
        return stored

    async def delete(self, owner: PrincipalId, conversation_id: ConversationId) -> None:
        """Delete a conversation and stop the reply that runs in it; raises what the store raises."""
        record = None
        stored = await self._store.load_conversation(conversation_id)
        _verify_owner(stored, owner)
        if stored.conversation.active_generation_id:
            record = await self._store.load_generation(GenerationId(stored.conversation.active_generation_id))

        async def on_gone() -> None:
            await self._reader.deleted(conversation_id)
            if record is not None:
                await self._stop(record)

        await self._store.delete(owner=owner, conversation_id=conversation_id, on_gone=on_gone)

    async def erase(self, owner: PrincipalId, *, seconds: float) -> ErasedTotals:
        """Erase all of the owner's, for about so long; called again, it goes on. Raises StoreUnavailableError."""
        totals = ErasedTotals()
        until = asyncio.get_running_loop().time() + seconds
        async with aclosing(erase_steps(self._store, owner)) as steps:
            async for step in steps:
                totals = totals.plus(step)
                for conversation_id in step.conversation_ids:
                    await self._reader.deleted(conversation_id)
                for record in step.running:
                    await self._stop(record)
                if asyncio.get_running_loop().time() > until:
                    break
        return totals

    async def _stop(self, record: GenerationRecord) -> None:
        """Stop the reply of a conversation that is gone."""
        try:
            await self._sessions.cancel(record)
        except LogUnavailableError:
            # Its producer finds out when it finishes: there is nothing left to finish.
            return

    async def _begin(self, begun: BegunTurn, client_message_id: str, charge: Charge) -> Answer:
        record = begun.generation
        feed: Feed | None
        if not begun.duplicate:
            feed = await self._begin_new(begun, charge)
        elif record.status is GenerationStatus.RUNNING and record.epoch == 0:
            # Who stored it may have died before it began. The lease decides who makes it; who begins it pays.
            feed = self._sessions.begin(record)
            charge.settle_at_end(begun, feed)
        else:
            feed = await self._find(record)
        accepted = Accepted(
            client_message_id=client_message_id,
            conversation_id=begun.conversation_id,
            user_turn_id=begun.user_turn_id,
            generation_id=begun.generation_id,
            duplicate=begun.duplicate,
        )
        return Answer(accepted, feed)

    async def _begin_new(self, begun: BegunTurn, charge: Charge) -> Feed:
        try:
            await charge.stored(begun)
        except BaseException:
            await self._end_unpaid(begun.generation)
            raise
        try:
            await self._reader.written(begun.conversation)
        finally:
            # Also where that failed: what is stored will be answered, so it is here, where it is paid for.
            feed = self._sessions.begin(begun.generation)
            charge.settle_at_end(begun, feed)
        return feed

    async def _end_unpaid(self, record: GenerationRecord) -> None:
        """End a reply that was stored and that nobody pays for, also where a repetition has begun it elsewhere."""
        try:
            await self._sessions.cancel(record)
        except LogUnavailableError:
            self._sessions.begin(record)
            await self._sessions.cancel(record)

    async def _find(self, record: GenerationRecord) -> Feed | None:
        try:
            return await self._sessions.find(record)
        except LogUnavailableError:
            return None

    async def _owned_generation(self, owner: PrincipalId, generation_id: GenerationId) -> GenerationRecord:
        record = await self._store.load_generation(generation_id)
        if record.owner != owner:
            raise GenerationNotFoundError(generation_id)
        return record


def _verify_owner(stored: StoredConversation, owner: PrincipalId) -> None:
    if stored.owner != owner:
        raise ConversationNotFoundError(stored.conversation_id)


async def _reaches(feed: Feed, seq: int) -> bool:
    """Whether the feed holds (or soon holds) all that the client has seen, and means the same by it.

    A log may be catching up. A producer that was cut off from the log may have shown more than whoever took the reply
    over could know: from the takeover on the same numbers may have been shown with another text, and a cursor does
    not say by whom. Such a client begins anew; it loses nothing by it.
    """
    if feed.last_seq < seq:
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                await feed.wait_for(seq)
        except TimeoutError:
            return False
    return feed.last_seq >= seq and not any(map(_is_takeover, feed.after(0)[:seq]))


def _is_takeover(entry: LogEntry) -> bool:
    if not entry.data.startswith(_CONTINUED):
        return False
    event = decode_generation_event(entry.data)
    return isinstance(event, Continued) and event.reason == "orchestrator_lost"
