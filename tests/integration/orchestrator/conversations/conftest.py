"""The DynamoDB store on the test kit's server, under the contract that the unit tests have."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import ManualClock
from pratique.core.ids import SequentialIds
from pratique.orchestrator.conversations.dynamodb.connection import Connection
from pratique.orchestrator.conversations.dynamodb.store import DynamoConversationStore
from pratique.orchestrator.conversations.dynamodb.table import EXPIRES_AT, definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import ModuleType

    from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace

UNIT = Path(__file__).resolve().parents[3] / "unit" / "orchestrator" / "conversations"


def load_unit(name: str) -> ModuleType:
    """Return a module of the unit tests, which importlib mode keeps from being imported by name."""
    full = f"unit_conversations_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, UNIT / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture
async def connection(dynamodb: DynamoDBNamespace, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """An empty table."""
    for name, value in dynamodb.environment().items():
        monkeypatch.setenv(name, value)
    return Connection(table=dynamodb.create_table("conversations", ttl=EXPIRES_AT, **definition()))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(connection: Connection, clock: ManualClock) -> AsyncIterator[DynamoConversationStore]:
    opened = await DynamoConversationStore.open(connection, clock=clock, ids=SequentialIds())
    yield opened
    await opened.aclose()


@pytest.fixture
def talk(store: DynamoConversationStore, clock: ManualClock) -> Any:
    return load_unit("conftest").Talk(store, clock)
