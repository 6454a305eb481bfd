"""Short histories of random clients under faults. The long ones are `python -m benchmarks history`."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from benchmarks.history.checker import Expectations, Finding, check
from benchmarks.history.record import Kind, Operation, Result, load_history
from benchmarks.history.replicas import run_on_replicas
from benchmarks.history.storeclient import StoreSpec
from benchmarks.history.stores import read_all, run_on_store, stall_server, stall_sqlite

from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations.dynamodb.connection import Connection, make_table
from pratique.orchestrator.conversations.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.history.stores import Stall

    from pratique.testkit.kit import PrivateServer

    Store = tuple[StoreSpec, Stall]

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SEED = "20261125"
SECONDS = 6.0


@pytest.fixture
def sqlite(tmp_path: Path) -> Store:
    database = tmp_path / "conversations.db"
    return StoreSpec(database=str(database)), stall_sqlite(database)


@pytest.fixture
async def dynamodb_store(
    pratique_launch: Callable[[str], PrivateServer[Any]], monkeypatch: pytest.MonkeyPatch
) -> Store:
    server = pratique_launch("dynamodb")
    for name, value in server.endpoint.environment().items():
        monkeypatch.setenv(name, value)
    table = Connection(table="history", deadline_seconds=20, attempt_seconds=10)
    await make_table(table, clock=SystemClock(), metrics=Metrics())
    spec = StoreSpec(settings=StoreSettings(backend="dynamodb", table="history"))
    return spec, stall_server(server.pause, server.resume)


STORES = ["sqlite", "dynamodb_store"]
"""Fixtures: a store of one's own, and what stalls it."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def require_sound(history: list[Operation], expectations: Expectations, folder: Path) -> None:
    anomalies = check(history, expectations)
    if anomalies:
        kept = folder / "history.jsonl"
        kept.write_bytes(b"".join(msgspec.json.encode(operation) + b"\n" for operation in history))
        pytest.fail(f"seed {SEED}, history in {kept}:\n" + "\n".join(map(str, anomalies[:20])))


async def test_store_under_kills_pauses_and_stalls_keeps_its_promises(store: Store, tmp_path: Path) -> None:
    spec, stall = store
    history, faults = await run_on_store(spec, tmp_path, seconds=SECONDS, seed=SEED, stall=stall)
    assert sum(faults.values()) > 0
    assert any(one.kind is Kind.SEND and one.result is Result.OK for one in history)
    require_sound(history, Expectations(), tmp_path)


async def test_turn_that_vanishes_from_the_file_is_found_missing(sqlite: Store, tmp_path: Path) -> None:
    spec, stall = sqlite
    history, _ = await run_on_store(spec, tmp_path, seconds=0.1, seed=SEED, stall=stall)
    there = {one.conversation_id for one in history if one.is_final and one.result is Result.OK}
    victim = next(one for one in history if one.kind is Kind.SEND and one.conversation_id in there and one.user_turn_id)
    with contextlib.closing(sqlite3.connect(str(spec.database))) as connection, connection:
        connection.execute("DELETE FROM turns WHERE turn_id = ?", (victim.user_turn_id,))
    await read_all(spec, tmp_path / "later.jsonl", history)
    again = [one for one in history if not one.is_final] + load_history([tmp_path / "later.jsonl"])
    assert Finding.LOST in {anomaly.finding for anomaly in check(again)}


async def test_two_replicas_under_kills_and_pauses_keep_their_promises(sqlite: Store, tmp_path: Path) -> None:
    history, faults = await run_on_replicas(sqlite[0], tmp_path, seconds=SECONDS, seed=SEED, flags=[])
    assert sum(faults.values()) > 0
    assert any(one.kind is Kind.SEND and one.result is Result.OK for one in history)
    require_sound(history, Expectations(stale_seconds=10, all_end=True), tmp_path)
