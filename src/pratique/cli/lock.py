"""`pratique lock verify`: parse, call, render."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pratique.cli._signing import Config
from pratique.core.settings import load_settings
from pratique.release.lock.settings import LockSettings
from pratique.release.plain import plain

__all__ = ["app"]

app = typer.Typer(help="Hash locks: everything exact, everything with a hash.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Hash locks: everything exact, everything with a hash."""


@app.command("verify")
def verify(
    files: Annotated[
        list[Path], typer.Argument(help="Requirements with hashes, pylock.toml, or uv.lock.", metavar="FILE…")
    ],
    index: Annotated[
        list[str] | None, typer.Option(help="An index that a lock may name; repeated. [indexes of the settings]")
    ] = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say, offline, whether locks pin everything that they install; every place that does not, with its line."""
    from pratique.release.lock.verifying import verify_lock

    settings = _settings(config)
    if index:
        settings = msgspec.structs.replace(settings, indexes=tuple(index))
    found = [verify_lock(file, settings) for file in files]
    problems = [problem for one in found for problem in one.problems]
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "allowed": not problems, "locks": found}).decode())
    else:
        for problem in problems:
            print(plain(str(problem)))
    for one in found:
        verdict = f"{len(one.problems)} problems" if one.problems else f"{one.num_packages} packages, all pinned"
        print(f"{one.file}: {verdict}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


def _settings(config: Path | None) -> LockSettings:
    from pratique.release.settings import ReleaseSettings

    return load_settings(ReleaseSettings, part="release", file=config, environment=os.environ).lock
