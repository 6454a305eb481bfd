"""A person's data as a whole, over any store: as lines of JSON to hand out, and erased to the end.

The lines: a header, one conversation a line, and an end that counts them. An export without its end is not whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pratique.orchestrator.conversations.interface import Erased, ExportedConversation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pratique.core.ids import PrincipalId
    from pratique.orchestrator.conversations.interface import ConversationStore

__all__ = ["EXPORT_SCHEMA_VERSION", "ErasedTotals", "erase_steps", "export_lines"]

EXPORT_SCHEMA_VERSION: Final = 1
_STEP: Final = 50


class _Header(msgspec.Struct, frozen=True, kw_only=True, tag="export", tag_field="kind"):
    schema_version: int = EXPORT_SCHEMA_VERSION
    owner: str
    exported_at: float


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag="conversation", tag_field="kind"):
    conversation: ExportedConversation


class _End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="kind"):
    num_conversations: int
    num_turns: int


async def export_lines(store: ConversationStore, owner: PrincipalId, *, now: float) -> AsyncIterator[bytes]:
    """Yield the lines of an export, each with its newline; one conversation is in memory at a time.

    Raises:
        StoreUnavailableError: at any line; the end is not written then.
    """
    yield _line(_Header(owner=owner, exported_at=now))
    num_conversations = num_turns = 0
    async for conversation in store.export(owner=owner):
        num_conversations += 1
        num_turns += len(conversation.turns)
        yield _line(_Line(conversation=conversation))
    yield _line(_End(num_conversations=num_conversations, num_turns=num_turns))


class ErasedTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, in all."""

    num_conversations: int = 0
    num_turns: int = 0
    num_generations: int = 0
    num_messages: int = 0
    complete: bool = False
    """Nothing is left. False: the time was over; do it again to go on."""

    def plus(self, step: Erased) -> ErasedTotals:
        """Return the totals with one more step."""
        return ErasedTotals(
            num_conversations=self.num_conversations + len(step.conversation_ids),
            num_turns=self.num_turns + step.num_turns,
            num_generations=self.num_generations + step.num_generations,
            num_messages=self.num_messages + step.num_messages,
            complete=step.complete,
        )


async def erase_steps(store: ConversationStore, owner: PrincipalId) -> AsyncGenerator[Erased, None]:
    """Erase everything of the owner, yielding each durable step; the last one is `complete`.

    Raises:
        StoreUnavailableError: what was yielded before stays done; do it again to go on.
    """
    while True:
        step = await store.erase(owner=owner, limit=_STEP)
        yield step
        if step.complete:
            return


def _line(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"
