"""`pratique conversations export | erase | purge | create-table`: parse, call, render."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.core.clock import SystemClock
from pratique.core.errors import CallerError
from pratique.core.ids import PrincipalId, RandomIds
from pratique.core.metrics import Metrics
from pratique.core.settings import load_settings
from pratique.orchestrator.settings import OrchestratorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pratique.core.ids import ConversationId
    from pratique.orchestrator.cache import SharedCache
    from pratique.orchestrator.conversations.interface import ConversationStore
    from pratique.orchestrator.conversations.personal import ErasedTotals

__all__ = ["app"]

app = typer.Typer(help="Export, erase and purge conversations; make their table.", no_args_is_help=True)

_DAY_SECONDS = 86_400.0

_Config = Annotated[Path | None, typer.Option(help="TOML file with a table \\[orchestrator], as the replicas have it.")]
_StateDir = Annotated[Path | None, typer.Option(help="The replicas' state folder.")]
_Table = Annotated[str | None, typer.Option(help="Of DynamoDB, instead of what is configured.")]
_Region = Annotated[str | None, typer.Option(help="Of the table.")]
_EndpointUrl = Annotated[str | None, typer.Option(help="Of DynamoDB, where it is not AWS's own.")]
_Owner = Annotated[str, typer.Option(help="The principal's id.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@app.command("export")
def export(
    owner: _Owner,
    output: Annotated[Path | None, typer.Option(help="A new file. [standard output]")] = None,
    config: _Config = None,
    state_dir: _StateDir = None,
    table: _Table = None,
    region: _Region = None,
    endpoint_url: _EndpointUrl = None,
) -> None:
    """Write all that is kept of a person, as lines of JSON; the last line says that it is whole."""
    settings = _settings(config, state_dir, table=table, region=region, endpoint_url=endpoint_url)
    asyncio.run(_export(settings, PrincipalId(owner), output))


@app.command("erase")
def erase(
    owner: _Owner,
    yes: Annotated[bool, typer.Option("--yes", help="Erase it: it cannot be had back.")] = False,
    config: _Config = None,
    state_dir: _StateDir = None,
    table: _Table = None,
    region: _Region = None,
    endpoint_url: _EndpointUrl = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Erase all that is kept of a person. Interrupted, it goes on when called again."""
    if not (yes or dry_run):
        raise CallerError(f"This erases everything of '{owner}' for good.", hint="Say --yes, or look first: --dry-run.")
    settings = _settings(config, state_dir, table=table, region=region, endpoint_url=endpoint_url)
    if dry_run:
        count = asyncio.run(_count(settings, PrincipalId(owner)))
        print(f"would erase {count} conversations of '{owner}'", file=sys.stderr)
        return
    totals = asyncio.run(_erase(settings, PrincipalId(owner)))
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, **msgspec.structs.asdict(totals)}).decode())
        return
    print(
        f"erased {totals.num_conversations} conversations, {totals.num_turns} turns, {totals.num_generations}"
        f" generations, {totals.num_messages} message ids of '{owner}'"
    )


@app.command("purge")
def purge(
    older_than_days: Annotated[
        float | None, typer.Option(min=0.001, help="Since the last change. [retention_days of the settings]")
    ] = None,
    config: _Config = None,
    state_dir: _StateDir = None,
    table: _Table = None,
    region: _Region = None,
    endpoint_url: _EndpointUrl = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Remove conversations that did not change for so long, and what interrupted deletions left.

    Where neither an age nor a retention is set: only what interrupted deletions left.
    """
    settings = _settings(config, state_dir, table=table, region=region, endpoint_url=endpoint_url)
    days = older_than_days or settings.store.retention_days
    age = f"conversations without a change for {days:g} days and " if days else ""
    if dry_run:
        print(f"would remove {age}what interrupted deletions left", file=sys.stderr)
        return
    if not days:
        print("no retention and no age is set: removing only what interrupted deletions left", file=sys.stderr)
    count = asyncio.run(_purge(settings, days))
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "num_conversations": count}).decode())
        return
    print(f"removed {count} conversations")


@app.command("create-table")
def create_table(
    table: _Table = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print a CloudFormation template; make nothing.")] = False,
    config: _Config = None,
    region: _Region = None,
    endpoint_url: _EndpointUrl = None,
) -> None:
    """Make the DynamoDB table of the conversations."""
    from pratique.orchestrator.conversations.dynamodb.connection import Connection, make_table
    from pratique.orchestrator.conversations.dynamodb.table import cloudformation

    store = _settings(config, None, table=table, region=region, endpoint_url=endpoint_url).store
    if print_only:
        print(msgspec.json.format(msgspec.json.encode(cloudformation(store.table)), indent=2).decode())
        return
    connection = Connection(
        table=store.table,
        region=store.region,
        endpoint_url=store.endpoint_url,
        deadline_seconds=120.0,
        attempt_seconds=30.0,
    )
    asyncio.run(make_table(connection, clock=SystemClock(), metrics=Metrics()))
    print(f"made the table '{store.table}'")


@dataclass
class _Open:
    """The store, and the cache that replicas share."""

    store: ConversationStore
    shared: SharedCache | None
    untold: str = ""
    """Why replicas do not hear of what is gone; empty: they do."""

    async def deleted(self, conversation_id: ConversationId) -> None:
        """Have every replica forget it. A cache that does not answer keeps nothing from being removed."""
        from pratique.orchestrator.cache.interface import DELETED, SharedCacheError

        if self.shared is None:
            return
        try:
            await self.shared.outdate(conversation_id, DELETED)
        except SharedCacheError as error:
            # Asked no more: each of many would wait as long.
            self.shared, self.untold = None, error.message


@asynccontextmanager
async def _opened(settings: OrchestratorSettings) -> AsyncIterator[_Open]:
    from pratique.orchestrator.cache import ValkeySharedCache
    from pratique.orchestrator.conversations.build import open_store
    from pratique.orchestrator.conversations.memory import MemoryConversationStore

    clock = SystemClock()
    database = settings.path_of(settings.database, "conversations.db")
    async with AsyncExitStack() as stack:
        store = await open_store(
            settings.store, stack, database=database, clock=clock, ids=RandomIds(clock), metrics=Metrics()
        )
        if isinstance(store, MemoryConversationStore):
            raise CallerError(
                "No store is named: conversations in memory are gone with their replica.",
                hint="Say --state-dir, --table or --config.",
            )
        if not settings.valkey_url:
            yield _Open(store, None, untold="no valkey_url is set")
            return
        shared = ValkeySharedCache(settings.valkey_url, origin="pratique-conversations", settings=settings.cache)
        stack.push_async_callback(shared.aclose)
        yield _Open(store, shared)


async def _export(settings: OrchestratorSettings, owner: PrincipalId, output: Path | None) -> None:
    from pratique.orchestrator.conversations.personal import export_lines

    async with _opened(settings) as opened:
        with _destination(output) as write:
            async for line in export_lines(opened.store, owner, now=SystemClock().epoch()):
                write(line)


async def _erase(settings: OrchestratorSettings, owner: PrincipalId) -> ErasedTotals:
    from pratique.orchestrator.conversations.personal import ErasedTotals, erase_steps

    totals = ErasedTotals()
    async with _opened(settings) as opened:
        async for step in erase_steps(opened.store, owner):
            totals = totals.plus(step)
            for conversation_id in step.conversation_ids:
                await opened.deleted(conversation_id)
        _tell_of_caches(opened)
    return totals


async def _purge(settings: OrchestratorSettings, days: float) -> int:
    from pratique.orchestrator.conversations.retention import purge_old

    clock = SystemClock()
    # Nothing changed before 1970: without an age, none is too old.
    unchanged_since = clock.epoch() - days * _DAY_SECONDS if days else 0.0
    async with _opened(settings) as opened:
        count = await purge_old(opened.store, unchanged_since=unchanged_since, deleted=opened.deleted, clock=clock)
        _tell_of_caches(opened)
    return count


async def _count(settings: OrchestratorSettings, owner: PrincipalId) -> int:
    count, before = 0, None
    async with _opened(settings) as opened:
        while True:
            page = await opened.store.list_conversations(owner=owner, limit=200, before=before)
            count += len(page.conversations)
            before = page.next
            if before is None:
                return count


def _settings(
    config: Path | None, state_dir: Path | None, *, table: str | None, region: str | None, endpoint_url: str | None
) -> OrchestratorSettings:
    def load(**overrides: object) -> OrchestratorSettings:
        flags = {"state_dir": state_dir, **overrides}
        return load_settings(
            OrchestratorSettings, part="orchestrator", file=config, environment=os.environ, overrides=flags
        )

    settings = load()
    flags = {"table": table, "region": region, "endpoint_url": endpoint_url, "backend": table and "dynamodb"}
    given = {name: value for name, value in flags.items() if value is not None}
    # A table of settings is overridden as a whole: what is not given here stays as the other sources have it.
    return load(store=msgspec.structs.asdict(settings.store) | given) if given else settings


@contextmanager
def _destination(output: Path | None) -> Iterator[Callable[[bytes], object]]:
    """A new file that only its owner reads, or standard output. A file that is there is never overwritten."""
    if output is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise CallerError(f"{output} is there already.", hint="Name a new file.") from error
    with os.fdopen(handle, "wb") as file:
        yield file.write


def _tell_of_caches(opened: _Open) -> None:
    if opened.untold:
        print(f"running replicas may show it from their caches for some minutes ({opened.untold})", file=sys.stderr)
