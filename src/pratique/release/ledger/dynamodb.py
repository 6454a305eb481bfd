"""A ledger's rows in a DynamoDB table that several machines share.

An entry and its head are one item, written only where no item has that index: of two writers at once, one wins, and the
other reads what it wrote and tries again. Reads are strongly consistent. The table's role should allow PutItem, Query
and BatchGetItem, and neither UpdateItem nor DeleteItem.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from pratique.core.errors import CallerError
from pratique.release.errors import UnavailableError
from pratique.release.ledger.chain import format_time, parse_time
from pratique.release.ledger.errors import LedgerBrokenError
from pratique.release.ledger.interface import Entry, EntryKind
from pratique.release.ledger.store import Row, TakenError
from pratique.release.values import Digest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from types_boto3_dynamodb import DynamoDBClient

__all__ = ["DynamoStore", "connect", "table_definition"]

_BATCH: Final = 100
_PAUSE_SECONDS: Final = 0.05
_ROUNDS: Final = 8
_NAME: Final = "ledger"
_INDEX: Final = "index"
_TEXTS: Final = ("at", "kind", "subject", "environment", "actor", "previous", "hash")
_BYTES: Final = ("body", "bundle")


def table_definition() -> dict[str, Any]:
    """Return how the table is made, but for its name."""
    return {
        "AttributeDefinitions": [
            {"AttributeName": _NAME, "AttributeType": "S"},
            {"AttributeName": _INDEX, "AttributeType": "N"},
        ],
        "KeySchema": [
            {"AttributeName": _NAME, "KeyType": "HASH"},
            {"AttributeName": _INDEX, "KeyType": "RANGE"},
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
    }


def connect(*, region: str | None, endpoint_url: str | None, seconds: float) -> DynamoDBClient:
    """Return a client with deadlines; it retries throttling itself, a bounded number of times.

    Raises:
        CallerError: AWS's settings name no region, or are wrong.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(connect_timeout=5, read_timeout=min(seconds, 30), retries={"mode": "standard", "max_attempts": 4})
    try:
        return boto3.client("dynamodb", region_name=region, endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise CallerError(f"DynamoDB cannot be asked: {error}", hint="Name a region.") from error


class DynamoStore:
    """The items of one ledger."""

    def __init__(self, client: DynamoDBClient, table: str, name: str) -> None:
        self._client = client
        self._table = table
        self._name = name

    def rows(self, start: int, end: int) -> Iterator[Row]:
        if start >= end:
            return
        condition = "#ledger = :ledger AND #index BETWEEN :first AND :last"
        bounds = {":first": {"N": str(start)}, ":last": {"N": str(end - 1)}}
        with self._translated():
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table,
                ConsistentRead=True,
                KeyConditionExpression=condition,
                ExpressionAttributeNames={"#ledger": _NAME, "#index": _INDEX},
                ExpressionAttributeValues={":ledger": {"S": self._name}, **bounds},
            )
            for page in pages:
                yield from map(_row, page["Items"])

    def rows_at(self, indices: Sequence[int]) -> Iterator[Row]:
        for first in range(0, len(indices), _BATCH):
            page = indices[first : first + _BATCH]
            found = {row.entry.index: row for row in map(_row, self._batch(page))}
            yield from (found[index] for index in page if index in found)

    def size(self) -> int:
        with self._translated():
            answer = self._client.query(
                TableName=self._table,
                ConsistentRead=True,
                KeyConditionExpression="#ledger = :ledger",
                ExpressionAttributeNames={"#ledger": _NAME, "#index": _INDEX},
                ExpressionAttributeValues={":ledger": {"S": self._name}},
                ProjectionExpression="#index",
                ScanIndexForward=False,
                Limit=1,
            )
        return _integer(answer["Items"][0]) + 1 if answer["Items"] else 0

    def exclusive(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # `add` decides who was first

    def add(self, row: Row) -> None:
        entry = row.entry
        texts = {**{name: getattr(entry, name) for name in _TEXTS}, "at": format_time(entry.at)}
        item: dict[str, Any] = {_NAME: {"S": self._name}, _INDEX: {"N": str(entry.index)}}
        item |= {name: {"S": text} for name, text in texts.items()}
        item |= {"body": {"B": entry.body}, "bundle": {"B": row.bundle}}
        try:
            with self._translated():
                self._client.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression="attribute_not_exists(#index)",
                    ExpressionAttributeNames={"#index": _INDEX},
                )
        except TakenError:
            # A request that was sent again meets what it wrote itself the first time.
            if list(self.rows_at([entry.index])) != [row]:
                raise

    def _batch(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {
            self._table: {
                "Keys": [{_NAME: {"S": self._name}, _INDEX: {"N": str(index)}} for index in indices],
                "ConsistentRead": True,
            }
        }
        found: list[dict[str, Any]] = []
        for attempt in range(_ROUNDS):
            with self._translated():
                answer = self._client.batch_get_item(RequestItems=wanted)
            found += answer["Responses"].get(self._table, [])
            wanted = cast("dict[str, Any]", answer.get("UnprocessedKeys") or {})
            if not wanted:
                return found
            time.sleep(_PAUSE_SECONDS * 2**attempt)
        raise UnavailableError(f"the table {self._table} does not give all that was asked for", hint="Try again later.")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise TakenError(f"there is an entry at that index in the table {self._table}") from error
            raise UnavailableError(f"the table {self._table} cannot be used: {error}") from error
        except BotoCoreError as error:
            raise UnavailableError(f"the table {self._table} cannot be reached: {error}") from error


def _integer(item: Any) -> int:  # noqa: ANN401 - boto3's own type for an item
    return int(item[_INDEX]["N"])


def _row(item: Any) -> Row:  # noqa: ANN401 - boto3's own type for an item
    try:
        text = {name: str(item[name]["S"]) for name in _TEXTS}
        body, bundle = (bytes(item[name]["B"]) for name in _BYTES)
    except KeyError as error:
        raise LedgerBrokenError(f"entry {_integer(item)} is not as it was written: no {error}") from error
    entry = Entry(
        index=_integer(item),
        at=parse_time(text["at"]),
        kind=cast("EntryKind", text["kind"]),
        subject=Digest(text["subject"]),
        environment=text["environment"],
        body=body,
        actor=text["actor"],
        previous=Digest(text["previous"]),
        hash=Digest(text["hash"]),
    )
    return Row(entry, bundle)
