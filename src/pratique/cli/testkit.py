"""`pratique testkit tools | status | down | init`: parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from pratique.testkit.services.inventory import Stock

__all__ = ["app"]

app = typer.Typer(help="The test kit's servers: what is here, what is kept running.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
_NOT_HERE = 1


@app.command("tools")
def list_tools(
    install: Annotated[
        bool, typer.Option("--install", help="First install what comes from npm (WireMock, dynalite).")
    ] = False,
    require: Annotated[
        list[str] | None, typer.Option(help="Exit with 1 where no back end of this service is here. May be repeated.")
    ] = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """List every back end of every service: where it is, or how to get it."""
    from pratique.testkit.services.catalogue import make_services
    from pratique.testkit.services.inventory import missing_services, take_inventory

    if install:
        _install(dry_run=dry_run)
    stock = take_inventory(make_services())
    missing = missing_services(stock, require or ())
    for one in stock:
        if as_json:
            _print_json(msgspec.to_builtins(one))
        else:
            print(_tool_line(one))
    if missing:
        print(f"not here: {', '.join(missing)}", file=sys.stderr)
        raise typer.Exit(_NOT_HERE)


@app.command("status")
def show_status(as_json: _Json = False) -> None:
    """List the servers that `pytest --pratique-reuse` has left running for the next run."""
    from pratique.testkit.host.kept import list_kept

    servers = list_kept()
    for server in servers:
        if as_json:
            _print_json(msgspec.to_builtins(server))
        else:
            up = "" if server.up_seconds is None else f"  up {server.up_seconds:.0f} s"
            print(f"{server.label}  {server.address}  pid {server.pid or '-'}{up}")
    if not servers:
        print("no servers are kept between runs", file=sys.stderr)


@app.command("down")
def end_kept(as_json: _Json = False, dry_run: _DryRun = False) -> None:
    """End the servers that are kept between runs."""
    from pratique.testkit.host.kept import list_kept
    from pratique.testkit.host.reuse import end_reused_hosts

    servers = list_kept()
    if dry_run:
        for server in servers:
            print(f"would end {server.label} at {server.address}", file=sys.stderr)
        return
    num_hosts = end_reused_hosts()
    if as_json:
        _print_json({"hosts_ended": num_hosts, "servers_ended": len(servers)})
    said = f"ended {len(servers)} kept server(s)" if num_hosts else "no servers are kept between runs"
    print(said, file=sys.stderr)


@app.command("init")
def init_project(
    folder: Annotated[Path, typer.Argument(help="The project's root.")] = Path(),
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Put a compose file of the services and a CI workflow into a project; what is there already is never replaced."""
    from pratique.testkit.templates.copying import copy_templates

    for file in copy_templates(folder, dry_run=dry_run):
        if as_json:
            _print_json({"file": str(file), "written": not dry_run})
        else:
            print(f"{'would write' if dry_run else 'wrote'} {file}", file=sys.stderr)


def _install(*, dry_run: bool) -> None:
    from pratique.testkit.services.tools import tools_folder
    from pratique.testkit.tools.install import NPM_COMMAND, install_npm_packages, is_installed

    folder = tools_folder()
    command = f"npm {' '.join(NPM_COMMAND)}"
    if is_installed(folder):
        print(f"nothing to install: {folder} is up to date", file=sys.stderr)
    elif dry_run:
        print(f"would run `{command}` in {folder}", file=sys.stderr)
    else:
        print(f"running `{command}` in {folder}", file=sys.stderr)
        install_npm_packages(folder)


def _tool_line(one: Stock) -> str:
    name = f"{one.service}/{one.provider} ({one.backend})"
    if one.is_here:
        return f"here     {name}  {one.version}  {one.where}"
    hint = f". {one.hint}" if one.hint else ""
    return f"missing  {name}  {one.why}{hint}"


def _print_json(fields: dict[str, object]) -> None:
    print(msgspec.json.encode({"schema_version": 1, **fields}).decode())
