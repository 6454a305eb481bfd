"""From settings and from the command line to the table and back."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from pratique.cli.conversations import app
from pratique.core.clock import SystemClock
from pratique.core.ids import PrincipalId, RandomIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import GenerationOptions
from pratique.orchestrator.conversations.build import open_store
from pratique.orchestrator.conversations.settings import StoreSettings

if TYPE_CHECKING:
    from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace

pytestmark = [pytest.mark.integration]


def run(*arguments: str) -> str:
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


async def _say(settings: StoreSettings) -> None:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store = await open_store(settings, stack, database=None, clock=clock, ids=RandomIds(clock), metrics=Metrics())
        await store.begin_turn(
            owner=PrincipalId("ann"),
            conversation_id=None,
            client_message_id="message-1",
            text="hello",
            options=GenerationOptions(),
        )


def test_a_table_made_by_the_command_is_used_exported_and_erased(
    dynamodb: DynamoDBNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in dynamodb.environment().items():
        monkeypatch.setenv(name, value)
    where = ("--table", dynamodb.table("talk"), "--endpoint-url", dynamodb.endpoint.url)
    assert "made the table" in run("create-table", *where)
    asyncio.run(_say(StoreSettings(backend="dynamodb", table=dynamodb.table("talk"), retention_days=30)))
    lines = [json.loads(line) for line in run("export", "--owner", "ann", *where).splitlines()]
    assert [line["kind"] for line in lines] == ["export", "conversation", "end"]
    assert run("purge", "--older-than-days", "1", *where) == "removed 0 conversations\n"
    assert "erased 1 conversations, 1 turns" in run("erase", "--owner", "ann", "--yes", *where)
    assert dynamodb.client().scan(TableName=dynamodb.table("talk"))["Items"] == []
