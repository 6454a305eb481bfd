"""`pratique model import | list | verify`: parse, call, render."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Import and verify models.", no_args_is_help=True)

_Root = Annotated[Path | None, typer.Option(help="Where models are kept. Default: the user's state folder.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]


@app.command("import")
def import_command(
    source: Annotated[
        str, typer.Argument(help="'small' is SmolLM2-135M-Instruct; else a GGUF file or a folder with safetensors.")
    ] = "small",
    model_root: _Root = None,
    as_json: _Json = False,
) -> None:
    """Turn a model into safetensors with a manifest of checksums. Does nothing where that is done."""
    from pratique.inference.artifacts.store import import_model

    if as_json:

        def show(phase: str, share: float) -> None:
            print(json.dumps({"schema_version": 1, "phase": phase, "progress": share}), flush=True)

        import_model(source, _root(model_root), show)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("importing the model", total=1.0)
        folder = import_model(
            source, _root(model_root), lambda phase, share: bar.update(task, description=phase, completed=share)
        )
    print(folder)


@app.command("list")
def list_command(model_root: _Root = None, as_json: _Json = False) -> None:
    """List the imported models."""
    from pratique.inference.artifacts.store import list_models

    for manifest in list_models(_root(model_root)):
        size = sum(entry.size_bytes for entry in manifest.files)
        fields = {"name": manifest.name, "size_bytes": size, "licence": manifest.licence, "origin": manifest.origin}
        print(
            json.dumps({"schema_version": 1, **fields})
            if as_json
            else f"{manifest.name}  {size / 1e6:.0f} MB  {manifest.licence}"
        )


@app.command("verify")
def verify_model(folder: Annotated[Path, typer.Argument(help="A folder with a manifest.")]) -> None:
    """Compare every file of a model with its manifest. Exit code 3 names the first that differs."""
    from pratique.inference.artifacts.manifest import verify

    manifest = verify(folder)
    print(f"{manifest.name}: {len(manifest.files)} files as recorded")


def _root(given: Path | None) -> Path:
    from pratique.inference.artifacts.store import default_model_root

    return given or default_model_root(os.environ)
