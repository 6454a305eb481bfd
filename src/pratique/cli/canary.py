"""`pratique canary assess`: parse, call, render. Exit codes: 0 pass; 1 fail; 2 wrong usage; 3 inconclusive."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import typer

from pratique.cli._signing import Config, Json, release_settings
from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.release.promotion.canary import Assessment

__all__ = ["app"]

app = typer.Typer(help="Judge measurements of a new release beside the old one.", no_args_is_help=True)

_EXIT_CODES: Final = {"pass": 0, "fail": 1, "inconclusive": 3}
_MAX_BYTES: Final = 512 * 1024 * 1024


class _Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: Literal[1] = 1
    stable: dict[str, list[float]]
    candidate: dict[str, list[float]]


@app.callback()
def _group() -> None:
    """A group of its own, though it has one command so far."""


@app.command("assess")
def assess_file(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help='JSON: {"stable": {METRIC: [NUMBER, …]}, "candidate": …}; - is standard input.'
        ),
    ],
    look: Annotated[int, typer.Option(min=1, help="Which look at a running canary this is.")] = 1,
    planned: Annotated[int, typer.Option(min=1, help="How many looks were planned; only the last can pass.")] = 1,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Judge a canary by the metrics in [release.promotion.canary]. Exit code 0: pass, 1: fail, 3: inconclusive."""
    from pratique.fleet.targets.interface import Window
    from pratique.release.promotion.canary import Look, assess

    measured = _read(file)
    window = Window(measured.stable, measured.candidate)
    found = assess(window, release_settings(config).promotion.canary, Look(look, planned))
    if as_json:
        told = {"schema_version": 1, "verdict": found.verdict, "metrics": found.metrics}
        print(msgspec.json.encode(told).decode())
    else:
        _print(found)
    raise typer.Exit(_EXIT_CODES[found.verdict])


def _read(file: Path) -> _Measured:
    from pratique.release.decoding import MalformedError, decode_json

    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CallerError(f"{file} cannot be read: {error.strerror}") from error
    try:
        return decode_json(content, _Measured, max_bytes=_MAX_BYTES)
    except MalformedError as error:
        raise CallerError(f"{file} holds no measurements: {error}") from error


def _print(found: Assessment) -> None:
    print(found.verdict)
    for one in found.metrics:
        print(f"{one.metric}: {one.verdict}: {one.reason}")
