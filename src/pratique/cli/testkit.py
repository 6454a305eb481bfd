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
_NAME_WIDTH = 13
_NOT_WRITTEN = 1
_LEFT = 3


@app.command("tools")
def list_tools(
    install: Annotated[
        bool, typer.Option("--install", help="First install what comes from npm (WireMock, dynalite).")
    ] = False,
    require: Annotated[
        list[str] | None, typer.Option(help="Exit with 1 where no back end of this service is here. May be repeated.")
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Also list the back ends that a run would not take by itself.")
    ] = False,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Say what would provide each service here, and how to get what nothing provides."""
    from pratique.testkit.services.catalogue import make_services
    from pratique.testkit.services.inventory import missing_services, take_inventory

    if install:
        _install(dry_run=dry_run)
    stock = take_inventory(make_services())
    missing = missing_services(stock, require or ())
    if as_json:
        for one in stock:
            _print_json(msgspec.to_builtins(one))
    else:
        _print_stock(stock, show_all=show_all)
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
    """End the servers that are kept between runs. Exits with 3 where one does not end."""
    from pratique.testkit.host.kept import list_kept
    from pratique.testkit.host.reuse import end_reused_hosts

    servers = list_kept()
    if dry_run:
        for server in servers:
            print(f"would end {server.label} at {server.address}", file=sys.stderr)
        if as_json:
            _print_json({"would_end": msgspec.to_builtins(servers)})
        return
    hosts = end_reused_hosts()
    num_ended = sum(server.host_pid not in hosts.left for server in servers)
    if as_json:
        _print_json({"hosts_ended": len(hosts.ended), "servers_ended": num_ended, "hosts_left": hosts.left})
    said = f"ended {num_ended} kept server(s)" if any(hosts) else "no servers are kept between runs"
    print(said, file=sys.stderr)
    for pid in hosts.left:
        left = ", ".join(f"{server.label} at {server.address}" for server in servers if server.host_pid == pid)
        print(f"still running: the host with the process id {pid} ({left or 'no servers'})", file=sys.stderr)
    if hosts.left:
        raise typer.Exit(_LEFT)


@app.command("init")
def init_project(
    folder: Annotated[Path, typer.Argument(help="The project's root.")] = Path(),
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Put a compose file of the services and a CI workflow into a project.

    What is there already is never replaced. Exits with 1 where such a file is another than the one that comes with the
    test kit; the others are written all the same.
    """
    from pratique.testkit.templates.copying import Found, copy_templates

    said = {
        Found.NOTHING: "would write {}" if dry_run else "wrote {}",
        Found.SAME: "{} is there already, the same",
        Found.OTHER: "left {} alone: it is there already, and is another; merge the two by hand, or move it away",
    }
    copied = copy_templates(folder, dry_run=dry_run)
    for file, found in copied.items():
        if as_json:
            _print_json({"file": str(file), "found": found, "written": found is Found.NOTHING and not dry_run})
        else:
            print(said[found].format(file), file=sys.stderr)
    if Found.OTHER in copied.values():
        raise typer.Exit(_NOT_WRITTEN)


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


def _print_stock(stock: list[Stock], *, show_all: bool) -> None:
    """Print a line for each service, what is not taken below it where asked, and how to get what is not here."""
    from pratique.testkit.services.inventory import hints_for, ready_stock

    ready = ready_stock(stock)
    for service in dict.fromkeys(one.service for one in stock):
        taken = ready.get(service)
        if taken is not None:
            print(f"{service:{_NAME_WIDTH}} ready: {_back_end(taken)}")
        elif show_all:
            print(f"{service:{_NAME_WIDTH}} not ready")
        for other in (one for one in stock if show_all and one.service == service and one is not taken):
            typer.secho(f"{'':{_NAME_WIDTH}} {_back_end(other)}", dim=True)
    lost = [one for one in stock if one.service not in ready]
    if lost:
        print(f"not ready: {', '.join(dict.fromkeys(one.service for one in lost))}; for them:")
    elif show_all and hints_for(stock):
        print("for the others:")
    for hint in hints_for(stock if show_all else lost):
        print(f"  {hint}")


def _back_end(one: Stock) -> str:
    if one.is_here:
        return f"{one.provider} {one.version} ({one.where})"
    return f"{one.provider} ({one.backend}) is not here: {one.why}"


def _print_json(fields: dict[str, object]) -> None:
    print(msgspec.json.encode({"schema_version": 1, **fields}).decode())
