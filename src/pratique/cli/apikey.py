"""`pratique apikey create | list | revoke`: parse, call, render."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from pratique.orchestrator.access.keys import ApiKey

__all__ = ["app"]

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

_File = Annotated[Path, typer.Option(help="The keys file that the orchestrators read (`api_keys_file`).")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@app.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="Whose or what for.")],
    file: _File,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Make a key and print it, once: only its hash is stored."""
    from pratique.orchestrator.access.keyring import ApiKeyring

    if dry_run:
        print(f"would create a key named '{name}' in {file}", file=sys.stderr)
        return
    entry, text = ApiKeyring(file).create(name)
    if as_json:
        _print_json({**_fields(entry), "key": text})
        return
    print(text)
    print(f"'{name}' is {entry.id}. This key is not shown again.", file=sys.stderr)


@app.command("list")
def list_keys(file: _File, as_json: _Json = False) -> None:
    """List the keys, revoked ones included; never the keys themselves."""
    from pratique.orchestrator.access.keyring import ApiKeyring

    for entry in ApiKeyring(file).entries():
        if as_json:
            _print_json(_fields(entry))
            continue
        state = "active" if entry.revoked is None else f"revoked {_day(entry.revoked)}"
        print(f"{entry.id}  created {_day(entry.created)}  {state}  {entry.name}")


@app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id that `list` shows.", metavar="ID")],
    file: _File,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Refuse a key from now on, on every replica within a second."""
    from pratique.orchestrator.access.keyring import ApiKeyring

    if dry_run:
        print(f"would revoke {key_id} in {file}", file=sys.stderr)
        return
    entry = ApiKeyring(file).revoke(key_id)
    if as_json:
        _print_json(_fields(entry))
        return
    print(f"{entry.id} '{entry.name}' is revoked since {_day(entry.revoked or 0)}", file=sys.stderr)


def _fields(entry: ApiKey) -> dict[str, object]:
    return {"id": entry.id, "name": entry.name, "created": entry.created, "revoked": entry.revoked}


def _print_json(fields: dict[str, object]) -> None:
    print(msgspec.json.encode({"schema_version": 1, **fields}).decode())


def _day(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")
