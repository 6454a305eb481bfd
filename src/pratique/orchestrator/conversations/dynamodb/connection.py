"""Where the table is, and the one way in that says what is missing where the extra [dynamodb] is not installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from pratique.core.clock import Clock
    from pratique.core.ids import IdSource
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.conversations.dynamodb.store import DynamoConversationStore

__all__ = ["Connection", "make_table", "open_dynamodb"]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the table is, and how long to wait for it."""

    table: str
    region: str = ""
    endpoint_url: str = ""
    read_endpoint_url: str = ""
    """Asked where an answer may be a moment old; empty: the same as for everything else."""
    deadline_seconds: float = 10.0
    """Of one call of the store, with all its requests and their repetitions."""
    attempt_seconds: float = 2.0
    """Of one request."""


async def open_dynamodb(
    connection: Connection, *, retention_seconds: float | None, clock: Clock, ids: IdSource, metrics: Metrics
) -> DynamoConversationStore:
    """Open the store.

    Raises:
        StoreUnavailableError: a package is missing, or the table cannot be used or does not fit.
    """
    _require_packages()
    from pratique.orchestrator.conversations.dynamodb.store import DynamoConversationStore

    return await DynamoConversationStore.open(
        connection, retention_seconds=retention_seconds, clock=clock, ids=ids, metrics=metrics
    )


async def make_table(connection: Connection, *, clock: Clock, metrics: Metrics) -> None:
    """Make the table and wait until it can be used.

    Raises:
        StoreUnavailableError: a package is missing, there is such a table, or it cannot be made.
    """
    _require_packages()
    from pratique.orchestrator.conversations.dynamodb.gateway import Gateway
    from pratique.orchestrator.conversations.dynamodb.table import create_table

    gateway = await Gateway.open(connection, clock=clock, metrics=metrics)
    try:
        async with gateway.deadline("come to be"):
            await create_table(gateway)
    finally:
        await gateway.aclose()


def _require_packages() -> None:
    if find_spec("aiobotocore") is None:
        raise StoreUnavailableError(
            "Conversations in DynamoDB need the package 'aiobotocore'.", hint="pip install 'pratique[dynamodb]'"
        )
