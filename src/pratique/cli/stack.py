"""`pratique up | down | status | logs`: parse, call, render."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from pratique.cli._stack_view import make_view, render_status
from pratique.core.errors import CallerError
from pratique.core.settings import load_settings
from pratique.fleet.errors import NoStackError, UnknownServiceError
from pratique.fleet.stack.control import ControlClient
from pratique.fleet.stack.home import is_locked, read_description
from pratique.fleet.stack.logs import follow, last_lines, render_line
from pratique.fleet.stack.prepare import StackRequest
from pratique.fleet.stack.run import launch, load_status, run_here
from pratique.fleet.stack.settings import StackPaths, StackSettings, default_config, default_state_dir
from pratique.fleet.stack.status import StackState, StackStatus

__all__ = ["down", "logs", "status", "up"]

_STOP_SECONDS = 120.0

_StateDir = Annotated[
    Path | None, typer.Option(help="Where the stack keeps everything. [~/.local/state/pratique]", show_default=False)
]


def up(
    port: Annotated[int | None, typer.Option(help="Port of the chat; 0: any free one. [8080]")] = None,
    inference: Annotated[int | None, typer.Option(help="Model servers. [2 where memory allows]")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm or simulated. [vllm]")] = None,
    state_dir: _StateDir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when the first model server takes traffic.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with [stack], [orchestrator], [inference]. [the reference application]"),
    ] = None,
    model_root: Annotated[Path | None, typer.Option(help="Where models are kept. [models in the state folder]")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of the chat; others let other machines in. [127.0.0.1]")
    ] = None,
) -> None:
    """Run the whole chat on this machine: edge, two orchestrators, cache, model servers."""
    file = _find_config(config)
    flags = {
        "port": port,
        "inference": inference,
        "engine": engine,
        "model_root": str(model_root.absolute()) if model_root else None,
        "host": host,
    }
    settings = load_settings(StackSettings, part="stack", file=file, environment=os.environ, overrides=flags)
    request = StackRequest(settings=settings, state_dir=str(_paths(state_dir).root), config=str(file) if file else None)
    console = Console(stderr=True)
    with make_view(console, detached=detach) as view:
        if not detach:
            asyncio.run(run_here(request, os.environ, view.show))
            return
        view.show(asyncio.run(launch(request, os.environ, view.show)))


def down(state_dir: _StateDir = None) -> None:
    """Stop the stack; return when nothing of it is left. Does nothing where none runs."""
    paths = _paths(state_dir)
    if not is_locked(paths):
        typer.echo(f"No stack runs in {paths.root}.", err=True)
        return
    asyncio.run(ControlClient(paths.control).stop(within_seconds=_STOP_SECONDS))
    typer.echo(f"Stopped the stack in {paths.root}.", err=True)


def status(
    state_dir: _StateDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, schema version 1.")] = False,
) -> None:
    """Show every service: state, what it does, pid, restarts, memory, address. Exit code 1 where nobody can chat."""
    paths = _paths(state_dir)
    try:
        read_description(paths)
        found = asyncio.run(load_status(ControlClient(paths.control)))
    except NoStackError as error:
        if not as_json:
            raise
        found = StackStatus(state=StackState.STOPPED, state_dir=str(paths.root))
        typer.echo(f"error: {error.message}", err=True)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(render_status(found))
    if found.state is not StackState.READY:
        raise typer.Exit(1)


def logs(
    service: Annotated[
        str | None, typer.Argument(help="One service; without it, all of them.", show_default=False)
    ] = None,
    state_dir: _StateDir = None,
    follow_them: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Lines as they are in the files: JSON.")] = False,
) -> None:
    """Show what the services logged, also of a stack that has stopped."""
    folder = _paths(state_dir).logs
    known = sorted(path.stem for path in folder.glob("*.log"))
    if service is not None and service not in known:
        raise UnknownServiceError(
            f"There is no log of '{service}' in {folder}.", hint=f"There are: {', '.join(known) or 'none yet'}."
        )
    files = [folder / f"{name}.log" for name in ([service] if service else known)]
    for line in last_lines(files, lines):
        typer.echo(line.text if as_json else render_line(line))
    if follow_them:
        for line in follow(files):
            typer.echo(line.text if as_json else render_line(line))


def _paths(state_dir: Path | None) -> StackPaths:
    root = (state_dir or default_state_dir(os.environ)).absolute()
    return StackPaths(root=root, model_root=root / "models")


def _find_config(given: Path | None) -> Path | None:
    if given is not None and not given.is_file():
        raise CallerError(f"The configuration file {given} does not exist.")
    return given.absolute() if given else default_config()
