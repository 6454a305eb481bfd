"""Field bug: a scan was assumed to return items in the order in which they were put.

The naive code shows the last turn of a conversation by taking a scan's last item. A mock keeps a dict, and a dict keeps
the order of insertion. DynamoDB returns a scan's items by the hash of their partition keys. The fix sorts by what says
the order: the time of the turn.

MiniStack and moto keep the order of insertion too, so they would pass the naive code: `needs("scan_order")` refuses
them. dynalite hashes as DynamoDB does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pratique.testkit import namespace_fixture, server_fixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit import DynamoDBNamespace

pytestmark = [pytest.mark.integration, pytest.mark.fast]

TEXTS = ("hello", "hi, how can I help?", "my order is late", "which one?", "4711", "it arrives tomorrow")

hashing_dynamodb = server_fixture("dynamodb", use="dynalite")
hashing_tables = namespace_fixture("hashing_dynamodb")


class Table(Protocol):
    """The two calls that the code uses of boto3's client."""

    def put_item(self, *, TableName: str, Item: dict[str, Any]) -> object: ...  # noqa: N803 - boto3's names

    def scan(self, *, TableName: str) -> dict[str, Any]: ...  # noqa: N803 - boto3's names


class MockTable:
    """What such mocks look like: a dict by key."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Any]] = {}

    def put_item(self, *, TableName: str, Item: dict[str, Any]) -> object:  # noqa: N803 - boto3's names
        del TableName
        self._items[Item["turn_id"]["S"]] = Item
        return {}

    def scan(self, *, TableName: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        del TableName
        return {"Items": list(self._items.values())}


# The code under test.


def add_turns(client: Table, table: str) -> None:
    for number, text in enumerate(TEXTS):
        item = {"turn_id": {"S": f"turn-{number}"}, "created": {"N": str(number)}, "text": {"S": text}}
        client.put_item(TableName=table, Item=item)


def last_turn_naively(client: Table, table: str) -> str:
    text: str = client.scan(TableName=table)["Items"][-1]["text"]["S"]
    return text


def last_turn(client: Table, table: str) -> str:
    turns = client.scan(TableName=table)["Items"]
    text: str = max(turns, key=lambda turn: int(turn["created"]["N"]))["text"]["S"]
    return text


# The tests.


def check(client: Table, table: str, last_turn: Callable[[Table, str], str]) -> None:
    """The one test that somebody wrote."""
    add_turns(client, table)
    assert last_turn(client, table) == TEXTS[-1]


@pytest.fixture
def real_table(hashing_tables: DynamoDBNamespace) -> tuple[Table, str]:
    client: Any = hashing_tables.client()
    return client, hashing_tables.create_table("turns", key="turn_id: S")


def test_the_naive_code_passes_on_a_mock() -> None:
    check(MockTable(), "turns", last_turn_naively)


@pytest.mark.needs("scan_order")
def test_the_naive_code_fails_on_a_real_table(hashing_tables: DynamoDBNamespace, real_table: tuple[Table, str]) -> None:
    with pytest.raises(AssertionError):
        check(*real_table, last_turn_naively)


def test_the_fix_passes_on_a_mock() -> None:
    check(MockTable(), "turns", last_turn)


@pytest.mark.needs("scan_order")
def test_the_fix_passes_on_a_real_table(hashing_tables: DynamoDBNamespace, real_table: tuple[Table, str]) -> None:
    check(*real_table, last_turn)
