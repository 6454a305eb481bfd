"""Any sequence of calls has the same answers from DynamoDB as from memory and SQLite: the machine of the unit tests."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import initialize, run_state_machine_as_test

from pratique.core.ids import SequentialIds
from pratique.orchestrator.conversations.dynamodb.connection import Connection
from pratique.orchestrator.conversations.dynamodb.store import DynamoConversationStore
from pratique.orchestrator.conversations.dynamodb.table import definition

if TYPE_CHECKING:
    from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace

pytestmark = [pytest.mark.integration]

SETTINGS = settings(
    max_examples=6,
    stateful_step_count=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _machine() -> Any:
    # By its path: importlib mode keeps test modules from being imported by name.
    path = Path(__file__).resolve().parents[3] / "unit" / "orchestrator" / "conversations" / "test_stateful.py"
    spec = importlib.util.spec_from_file_location("conversations_stateful", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Stores


def test_every_store_answers_alike(dynamodb: DynamoDBNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dynamodb.environment().items():
        monkeypatch.setenv(name, value)
    numbers = itertools.count()
    stores = _machine()

    class Three(stores):  # type: ignore[misc, valid-type]  # loaded by its path
        @initialize()
        def open(self) -> None:
            super().open()
            table = dynamodb.create_table(f"conversations-{next(numbers)}", **definition())
            opening = DynamoConversationStore.open(Connection(table=table), clock=self.clock, ids=SequentialIds())
            self.stores.append(self.runner.run(opening))

    run_state_machine_as_test(Three, settings=SETTINGS)
    assert next(numbers) >= SETTINGS.max_examples
