"""The contract of ledgers over DynamoDB: the very tests that memory and SQLite pass."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.errors import CallerError
from pratique.release.errors import UnavailableError
from pratique.release.ledger.dynamodb import DynamoStore, connect, table_definition
from pratique.release.ledger.errors import LedgerBrokenError
from pratique.release.ledger.store import Row

if TYPE_CHECKING:
    from types import ModuleType

    from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace

pytestmark = [pytest.mark.integration]


def _contract() -> ModuleType:
    # By its path: importlib mode keeps test modules from being imported by name.
    path = Path(__file__).resolve().parents[3] / "unit" / "release" / "ledger" / "test_ledger_contract.py"
    spec = importlib.util.spec_from_file_location("unit_ledger_contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_MODULE = _contract()
globals().update(
    {name: value for name, value in vars(_MODULE).items() if name.startswith("Test") and name != "TestContention"}
)


@pytest.fixture
def table(dynamodb: DynamoDBNamespace, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in dynamodb.environment().items():
        monkeypatch.setenv(name, value)
    return dynamodb.create_table("ledger", **table_definition())


@pytest.fixture
def case(dynamodb: DynamoDBNamespace, table: str) -> Any:
    client = connect(region=None, endpoint_url=None, seconds=10)
    own = dynamodb.client()

    def key(index: int) -> dict[str, Any]:
        return {"ledger": {"S": _MODULE.NAME}, "index": {"N": str(index)}}

    def remove(index: int) -> None:
        own.delete_item(TableName=table, Key=key(index))

    def put(row: Row) -> None:
        remove(row.entry.index)
        DynamoStore(client, table, _MODULE.NAME).add(row)

    return _MODULE.Case(lambda: DynamoStore(client, table, _MODULE.NAME), put, remove)


def test_a_request_that_was_sent_again_does_not_lose_to_itself(case: Any) -> None:
    ledger = case.open()
    _MODULE.add(ledger)
    case.connect().add(case.rows()[0])
    assert case.open().verify() == 1


def test_an_item_that_lost_an_attribute_closes_the_ledger(case: Any, table: str, dynamodb: DynamoDBNamespace) -> None:
    _MODULE.add(case.open())
    dynamodb.client().update_item(
        TableName=table,
        Key={"ledger": {"S": _MODULE.NAME}, "index": {"N": "0"}},
        UpdateExpression="REMOVE actor",
    )
    with pytest.raises(LedgerBrokenError, match="not as it was written"):
        case.open()


def test_a_table_that_is_not_there_or_does_not_answer_is_an_environment_fault(case: Any, table: str) -> None:
    client = connect(region=None, endpoint_url=None, seconds=10)
    with pytest.raises(UnavailableError, match="cannot be used"):
        DynamoStore(client, table + "-none", "releases").size()
    nobody = connect(region=None, endpoint_url="http://127.0.0.1:1", seconds=0.5)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        DynamoStore(nobody, table, "releases").size()


def test_an_endpoint_that_is_none_is_a_wrong_call(table: str) -> None:
    with pytest.raises(CallerError, match="cannot be asked"):
        connect(region=None, endpoint_url="nonsense", seconds=1)
