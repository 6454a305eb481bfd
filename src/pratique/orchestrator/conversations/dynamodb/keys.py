"""Keys of the table: pure functions from names to partition keys, sort keys and places in the index."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from pratique.core.ids import ConversationId, GenerationId, PrincipalId

__all__ = [
    "CHUNK",
    "HEAD",
    "INDEX",
    "MEMBERSHIP",
    "MESSAGE",
    "OWNER_SHARDS",
    "RUNNING_SHARDS",
    "TURN",
    "Item",
    "chunk_key",
    "chunk_name",
    "chunks_prefix",
    "conversation_partition",
    "generation_key",
    "head_key",
    "list_shelf",
    "list_shelves",
    "membership_key",
    "message_key",
    "owner_partitions",
    "place",
    "running_shelf",
    "running_shelves",
    "turn_key",
]

Item: TypeAlias = dict[str, dict[str, Any]]
"""An item as DynamoDB's low-level API has it: attribute → {type: value}."""

INDEX: Final = "by_shelf"
HEAD: Final = "HEAD"
TURN: Final = "T#"
"""How the sort keys of a conversation's turns begin; so do those below."""
CHUNK: Final = "X#"
MEMBERSHIP: Final = "C#"
"""In an owner's partition."""
MESSAGE: Final = "M#"
OWNER_SHARDS: Final = 4
"""A partition takes 1,000 write units a second, a transactional write costs two: about 2,000 messages a second each."""
RUNNING_SHARDS: Final = 8


def conversation_partition(conversation_id: str) -> str:
    """Return the partition of a conversation's head, turns and pieces of text."""
    return f"C#{conversation_id}"


def head_key(conversation_id: str) -> Item:
    return _key(conversation_partition(conversation_id), HEAD)


def turn_key(conversation_id: str, position: int) -> Item:
    return _key(conversation_partition(conversation_id), f"{TURN}{position:010d}")


def chunk_key(conversation_id: str, turn_id: str, number: int) -> Item:
    return _key(conversation_partition(conversation_id), chunk_name(turn_id, number))


def chunk_name(turn_id: str, number: int) -> str:
    """Return the sort key of a piece of a turn's text."""
    return f"{chunks_prefix(turn_id)}{number:06d}"


def chunks_prefix(turn_id: str) -> str:
    """Return how the sort keys of all pieces of a turn's text begin."""
    return f"{CHUNK}{turn_id}#"


def generation_key(generation_id: str) -> Item:
    return _key(f"G#{generation_id}", "G")


def membership_key(owner: PrincipalId, conversation_id: ConversationId) -> Item:
    return _key(_owner_partition(owner, _shard(conversation_id, OWNER_SHARDS)), f"{MEMBERSHIP}{conversation_id}")


def message_key(owner: PrincipalId, client_message_id: str) -> Item:
    return _key(_owner_partition(owner, _shard(client_message_id, OWNER_SHARDS)), f"{MESSAGE}{client_message_id}")


def owner_partitions(owner: PrincipalId) -> list[str]:
    """Return every partition that holds something by the owner's name."""
    return [_owner_partition(owner, shard) for shard in range(OWNER_SHARDS)]


def list_shelf(owner: PrincipalId, conversation_id: ConversationId) -> str:
    return f"L#{owner}#{_shard(conversation_id, OWNER_SHARDS)}"


def list_shelves(owner: PrincipalId) -> list[str]:
    """Return the shelves of the index that make up the owner's list."""
    return [f"L#{owner}#{shard}" for shard in range(OWNER_SHARDS)]


def running_shelf(generation_id: GenerationId) -> str:
    return f"R#{_shard(generation_id, RUNNING_SHARDS)}"


def running_shelves() -> list[str]:
    """Return the shelves of the index that hold every running generation."""
    return [f"R#{shard}" for shard in range(RUNNING_SHARDS)]


def place(seconds: float, name: str) -> str:
    """Return a text that sorts by time (seconds since 1970, not negative), then by name, and loses no bit of them.

    The bits of non-negative IEEE 754 doubles, read as integers, are in the order of the numbers.
    """
    return f"{struct.pack('>d', max(0.0, seconds)).hex()}#{name}"


def _owner_partition(owner: PrincipalId, shard: int) -> str:
    return f"O#{owner}#{shard}"


def _shard(name: str, count: int) -> int:
    return zlib.crc32(name.encode("utf-8", "surrogatepass")) % count


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}
