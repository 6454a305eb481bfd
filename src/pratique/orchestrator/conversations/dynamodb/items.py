"""Values to items and back, and the check that what was read together belongs together. Pure.

A long text is cut into pieces, which are items of their own (an item has at most 400 KB): they are written before the
turn that needs them, never changed, and named by a turn id that no other write uses.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from pratique.core.ids import ConversationId, GenerationId, PrincipalId
from pratique.orchestrator.conversations import rules
from pratique.orchestrator.conversations.dynamodb import keys
from pratique.orchestrator.conversations.dynamodb.keys import Item
from pratique.orchestrator.conversations.interface import GenerationRecord, GenerationStatus, StoredConversation
from pratique.orchestrator.protocol.events import Conversation, Turn

__all__ = [
    "Head",
    "KnownMessage",
    "Snapshot",
    "StoredGeneration",
    "StoredTurn",
    "TornReadError",
    "assemble",
    "chunks_of",
    "generation_item",
    "generation_of",
    "head_among",
    "head_item",
    "head_of",
    "key_of",
    "membership_item",
    "message_item",
    "message_of",
    "turn_body",
    "turn_item",
    "turn_of",
]

INLINE_BYTES: Final = 64 * 1024
"""A longer text goes into pieces: in a transaction each KB costs two write units, of 1,000 a second in a partition."""
CHUNK_BYTES: Final = 256 * 1024

T = TypeVar("T")


class TornReadError(Exception):
    """What was read is part before and part after some transaction: read again."""


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what `body` holds as JSON. Unknown members are ignored, so that an older replica reads a newer's."""


class Head(_Body, frozen=True, kw_only=True):
    """What is true of a whole conversation."""

    conversation_id: ConversationId
    owner: PrincipalId
    title: str
    created_at: float
    updated_at: float
    version: int = 0
    active: GenerationId | None = None
    last_position: int = 0
    seal: int = 0
    """The sum of the versions of all turns."""
    deleted_by: str | None = None
    """Set once it is deleted and its turns are being removed; names the call that did it."""


class StoredTurn(_Body, frozen=True, kw_only=True):
    """A turn and what belongs to it."""

    position: int
    turn: Turn
    version: int
    """Of the conversation, when this turn last changed."""
    superseded_by: GenerationId | None = None
    generations: tuple[GenerationId, ...] = ()
    """Of a user turn: every one that answered it."""
    messages: tuple[str, ...] = ()
    """Of a user turn: the client message ids that asked for them."""
    num_chunks: int = 0
    expires_at: int | None = None


class StoredGeneration(_Body, frozen=True, kw_only=True):
    """A generation. The text of its outcome is that of the turn at `position`."""

    record: GenerationRecord
    touched_at: float
    holder: str = ""
    position: int | None = None
    ended_by: str = ""
    """The call that ended it: tells a repetition after a lost answer from another's end."""


class KnownMessage(_Body, frozen=True, kw_only=True):
    """What a client message id began."""

    owner: PrincipalId
    client_message_id: str
    began_conversation: bool
    conversation_id: ConversationId
    generation_id: GenerationId
    digest: str | None = None
    """None: forgotten with its conversation."""


class Snapshot(_Body, frozen=True, kw_only=True):
    """A conversation, whole, hidden replies included."""

    head: Head
    turns: tuple[StoredTurn, ...] = ()

    def shown(self) -> StoredConversation:
        """Return what readers see."""
        head = self.head
        conversation = Conversation(
            conversation_id=head.conversation_id,
            title=head.title,
            created_at=head.created_at,
            updated_at=head.updated_at,
            version=head.version,
            turns=tuple(one.turn for one in self.turns if one.superseded_by is None),
            active_generation_id=head.active,
        )
        return StoredConversation(owner=head.owner, conversation=conversation)


def key_of(item: Item) -> Item:
    """Return the key of an item."""
    return {"pk": item["pk"], "sk": item["sk"]}


def head_item(head: Head, *, expires_at: int | None) -> Item:
    item = {
        **keys.head_key(head.conversation_id),
        "version": _number(head.version),
        "changed_at": _number(head.updated_at),
        "body": _json(head),
    }
    if head.deleted_by is None:
        item["shelf"] = {"S": keys.list_shelf(head.owner, head.conversation_id)}
        item["place"] = {"S": keys.place(head.updated_at, head.conversation_id)}
    else:
        item["deleted"] = {"BOOL": True}
    return _expiring(item, expires_at)


def head_of(item: Item) -> Head:
    return _body(item, Head)


def turn_item(conversation_id: ConversationId, stored: StoredTurn) -> Item:
    """Return the item of a turn; where its text is long, `chunks_of` has it."""
    bare = msgspec.structs.replace(
        stored, turn=msgspec.structs.replace(stored.turn, text=""), num_chunks=_num_chunks(stored.turn.text)
    )
    item = {**keys.turn_key(conversation_id, stored.position), "body": _json(bare)}
    if not bare.num_chunks:
        item["text"] = {"S": stored.turn.text}
    return _expiring(item, stored.expires_at)


def chunks_of(conversation_id: ConversationId, stored: StoredTurn) -> list[Item]:
    """Return the pieces of a long text; none for a short one."""
    if not _num_chunks(stored.turn.text):
        return []
    data = stored.turn.text.encode()
    pieces = (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
    return [
        _expiring(
            {**keys.chunk_key(conversation_id, stored.turn.turn_id, number), "piece": {"B": piece}}, stored.expires_at
        )
        for number, piece in enumerate(pieces)
    ]


def turn_of(item: Item, pieces: dict[str, bytes]) -> StoredTurn:
    """Return the turn with its whole text.

    Raises:
        TornReadError: some of its pieces are not among those given.
    """
    stored = _body(item, StoredTurn)
    expires_at = int(item["expires_at"]["N"]) if "expires_at" in item else None
    if stored.num_chunks:
        wanted = [keys.chunk_name(stored.turn.turn_id, number) for number in range(stored.num_chunks)]
        if any(name not in pieces for name in wanted):
            raise TornReadError
        text = b"".join(pieces[name] for name in wanted).decode()
    else:
        text = item["text"]["S"]
    turn = msgspec.structs.replace(stored.turn, text=text)
    return msgspec.structs.replace(stored, turn=turn, expires_at=expires_at)


def turn_body(item: Item) -> StoredTurn:
    """Return the turn without its text."""
    return _body(item, StoredTurn)


def generation_item(stored: StoredGeneration, *, expires_at: int | None) -> Item:
    record = rules.without_text(stored.record)
    item = {
        **keys.generation_key(record.generation_id),
        "epoch": _number(record.epoch),
        "status": {"S": record.status.value},
        "body": _json(msgspec.structs.replace(stored, record=record)),
    }
    if record.status is GenerationStatus.RUNNING:
        item["shelf"] = {"S": keys.running_shelf(record.generation_id)}
        item["place"] = {"S": keys.place(stored.touched_at, record.generation_id)}
    return _expiring(item, expires_at)


def generation_of(item: Item) -> StoredGeneration:
    return _body(item, StoredGeneration)


def message_item(message: KnownMessage, *, expires_at: int | None) -> Item:
    item = {
        **keys.message_key(message.owner, message.client_message_id),
        "body": _json(msgspec.structs.replace(message, digest=None)),
        "digest": {"S": message.digest or ""},
    }
    return _expiring(item, expires_at)


def message_of(item: Item) -> KnownMessage:
    digest = item["digest"]["S"] if "digest" in item else None
    return msgspec.structs.replace(_body(item, KnownMessage), digest=digest)


def membership_item(head: Head, *, expires_at: int | None) -> Item:
    return _expiring(dict(keys.membership_key(head.owner, head.conversation_id)), expires_at)


def head_among(found: list[Item]) -> Head | None:
    """Return the head that is among the items of a partition."""
    heads = [item for item in found if item["sk"]["S"] == keys.HEAD]
    return head_of(heads[0]) if heads else None


def assemble(found: list[Item]) -> Snapshot | None:
    """Return the conversation that the items of its partition make; None where there is no head.

    A turn that is newer than the head, or older than the head says, shows that a transaction was read half. Of a
    conversation that is being removed only the head is returned: its turns go one by one.

    Raises:
        TornReadError.
    """
    head = head_among(found)
    if head is None:
        return None
    if head.deleted_by is not None:
        return Snapshot(head=head)
    pieces = {item["sk"]["S"]: bytes(item["piece"]["B"]) for item in found if item["sk"]["S"].startswith(keys.CHUNK)}
    turns = tuple(turn_of(item, pieces) for item in found if item["sk"]["S"].startswith(keys.TURN))
    versions = [one.version for one in turns]
    if sum(versions) != head.seal or max(versions, default=0) > head.version:
        raise TornReadError
    return Snapshot(head=head, turns=turns)


def _num_chunks(text: str) -> int:
    # A character has at most four bytes: most texts need no encoding to be known as short.
    if len(text) * 4 <= INLINE_BYTES:
        return 0
    size = len(text.encode())
    return -(-size // CHUNK_BYTES) if size > INLINE_BYTES else 0


def _expiring(item: Item, expires_at: int | None) -> Item:
    return item if expires_at is None else {**item, "expires_at": {"N": str(expires_at)}}


def _number(value: float) -> dict[str, str]:
    return {"N": repr(value)}


def _json(value: msgspec.Struct) -> dict[str, str]:
    return {"S": msgspec.json.encode(value).decode()}


def _body(item: Item, kind: type[T]) -> T:
    return msgspec.json.decode(item["body"]["S"], type=kind)
