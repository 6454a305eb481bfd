"""A history by message and by conversation. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from benchmarks.history.record import Kind, Operation, Result, SeenTurn

__all__ = ["NOT_FOUND", "Conversation", "Message", "Story", "tell"]

NOT_FOUND = "conversation_not_found"


@dataclass
class Message:
    """All sends of one message id."""

    message_id: str
    text: str
    sends: list[Operation] = field(default_factory=list)

    @cached_property
    def acknowledged(self) -> list[Operation]:
        return [send for send in self.sends if send.result is Result.OK]

    @cached_property
    def acknowledged_at(self) -> float:
        """When the first acknowledgement came; infinity without one."""
        return min((send.end for send in self.acknowledged), default=math.inf)

    @cached_property
    def began_at(self) -> float:
        return min(send.began_at for send in self.sends)

    @property
    def may_be_stored(self) -> bool:
        return any(send.result is not Result.FAIL for send in self.sends)


@dataclass
class Conversation:
    """All operations on one conversation."""

    name: str
    messages: list[Message] = field(default_factory=list)
    """Those that were acknowledged as being in it."""
    reads: list[Operation] = field(default_factory=list)
    """With a known outcome, by when they began."""
    deletes: list[Operation] = field(default_factory=list)
    final: Operation | None = None

    @cached_property
    def turns(self) -> tuple[SeenTurn, ...]:
        """What it holds at the end; of one that is gone by then, the most that was read of it."""
        if self.final is not None and self.final.result is Result.OK:
            return self.final.turns
        return max((read.turns for read in self.reads), key=len, default=())

    @cached_property
    def is_there(self) -> bool:
        return self.final is not None and self.final.result is Result.OK

    @cached_property
    def deleted_at(self) -> float:
        """When it was certainly deleted; infinity where it is not certain."""
        return min((one.end for one in self.deletes if one.result is Result.OK), default=math.inf)

    @cached_property
    def may_be_gone_from(self) -> float:
        """When the first deletion began that may have happened."""
        return min((one.began_at for one in self.deletes if one.result is not Result.FAIL), default=math.inf)


@dataclass(frozen=True)
class Story:
    """What the checks look at."""

    messages: dict[str, Message]
    conversations: dict[str, Conversation]
    replies: list[Operation]

    @cached_property
    def by_text(self) -> dict[str, Message]:
        return {message.text: message for message in self.messages.values()}


def tell(history: Sequence[Operation]) -> Story:
    """Group a history's operations."""
    messages: dict[str, Message] = {}
    for send in _of(history, Kind.SEND):
        messages.setdefault(send.message_id, Message(send.message_id, send.text)).sends.append(send)
    names = {one.conversation_id: None for one in history if one.conversation_id}
    conversations = {name: Conversation(name) for name in names}
    for message in messages.values():
        for name in {send.conversation_id for send in message.acknowledged}:
            conversations[name].messages.append(message)
    for read in _of(history, Kind.READ):
        conversation = conversations[read.conversation_id]
        if read.is_final:
            conversation.final = None if read.result is Result.UNKNOWN else read
        elif _is_known(read):
            conversation.reads.append(read)
    for delete in _of(history, Kind.DELETE):
        conversations[delete.conversation_id].deletes.append(delete)
    return Story(messages, conversations, list(_of(history, Kind.REPLY)))


def _of(history: Iterable[Operation], kind: Kind) -> list[Operation]:
    return [operation for operation in history if operation.kind is kind]


def _is_known(read: Operation) -> bool:
    return read.result is Result.OK or (read.result is Result.FAIL and read.error == NOT_FOUND)
