"""Conversations in one DynamoDB table, shared by every replica on every machine.

Single-table design: the partition key is `pk`, the sort key `sk`, both strings; one global index, `by_shelf`, with the
keys `shelf` and `place`; items expire by `expires_at`. What is not a key or part of a condition is JSON in `body`.

| item | pk | sk | also |
|---|---|---|---|
| head of a conversation | `C#<conversation>` | `HEAD` | `version`, `changed_at`; shelf `L#<owner>#<shard>` |
| turn | `C#<conversation>` | `T#<position>` | `text` |
| piece of a long text | `C#<conversation>` | `X#<turn>#<number>` | `piece` (bytes) |
| generation | `G#<generation>` | `G` | `epoch`, `status`; while it runs: shelf `R#<shard>` |
| the owner's conversation | `O#<owner>#<shard>` | `C#<conversation>` | |
| client message id | `O#<owner>#<shard>` | `M#<client message id>` | `digest` |

Who asks what:

- A snapshot is one Query of a conversation's partition. DynamoDB's Query is not isolated from transactions; the head
  therefore seals its turns (the sum of the versions at which each last changed), and a torn read is read again.
- A write is one TransactWriteItems: head, turn, generation, message id. Every change of a turn goes with a change of
  its head under the condition that the head's version is still the one that was read.
- A person's list is a Query of the index for each of a few shards, merged; so is the list of running generations.
- What is left of a person is found in the table itself, not in the index, because the index lags.
- No partition takes more than one conversation's, or a fraction of one principal's, traffic.

`keys` and `items` say how values are written, `plans` decides each transaction, `faults` what an error means: all pure.
`gateway` speaks to DynamoDB with deadlines and bounded retries; `reading`, `removal`, `store` are thin over these.
"""

from pratique.orchestrator.conversations.dynamodb.connection import Connection, make_table, open_dynamodb

__all__ = ["Connection", "make_table", "open_dynamodb"]
