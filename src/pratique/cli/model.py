"""`pratique model import | list | verify`: parse, call, render. The commands about releases are in `model_release`.

Exit codes of `verify`: 0 all is as recorded; 1 something differs; 2 wrong usage; 3 it cannot be read.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pratique.cli import model_release

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.inference.artifacts.sandbox import SandboxReport
    from pratique.inference.artifacts.store import ImportPlan

__all__ = ["app"]

app = typer.Typer(help="Import, verify and release models.", no_args_is_help=True)
for _command in (
    model_release.push,
    model_release.pull,
    model_release.evidence,
    model_release.admit,
    model_release.provenance,
):
    app.command()(_command)

_DIFFERS = 1
_UNDECIDED = 3
_Root = Annotated[Path | None, typer.Option(help="Where models are kept. Default: the user's state folder.")]
_JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]


@app.command("import")
def import_command(
    source: Annotated[
        str,
        typer.Argument(
            help="'small' is SmolLM2-135M-Instruct; else a GGUF or PyTorch file, or a model's or LoRA adapter's folder."
        ),
    ] = "small",
    model_root: _Root = None,
    name: Annotated[str, typer.Option(help="Of the imported model. Default: the source's own name.")] = "",
    licence: Annotated[
        str, typer.Option(help="SPDX identifier. Default: what the model's files state.", metavar="SPDX")
    ] = "",
    origin: Annotated[str, typer.Option(help="Where it is from. Default: its path.", metavar="TEXT")] = "",
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe-without-sandbox", help="Read pickles even where the process that reads them cannot be shut in."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: _JsonLines = False,
) -> None:
    """Turn a model into safetensors with a manifest of checksums. Does nothing where that is done."""
    from pratique.inference.artifacts.store import ImportOptions, import_planned, plan_import

    options = ImportOptions(name=name, licence=licence, origin=origin, is_unsafe_without_sandbox=unsafe)
    plan = plan_import(source, _root(model_root), options)
    if unsafe:
        print("warning: --unsafe-without-sandbox was given: a pickle may run what it likes", file=sys.stderr)
    if dry_run:
        _print_plan(plan, as_json=as_json)
        return
    if as_json:
        _say_json(phase="done", progress=1.0, folder=str(import_planned(plan, _tell_json, _sandbox_json)))
        return
    folder = _with_bar(lambda tell: import_planned(plan, tell, _sandbox_text))
    for left_out in plan.source.left_out if plan.source else ():
        print(f"left out: {left_out}", file=sys.stderr)
    print(folder)


@app.command("list")
def list_command(model_root: _Root = None, as_json: _JsonLines = False) -> None:
    """List the imported models."""
    from pratique.inference.artifacts.store import list_models

    root = _root(model_root)
    found = list_models(root)
    if not found:
        print(f"no imported model in {root}", file=sys.stderr)
    for manifest in found:
        fields = {"name": manifest.name, "size_bytes": manifest.size_bytes, "licence": manifest.licence}
        print(
            json.dumps({"schema_version": 1, **fields, "origin": manifest.origin})
            if as_json
            else f"{manifest.name}  {manifest.size_bytes / 1e6:.0f} MB  {manifest.licence}"
        )


@app.command("verify")
def verify_model(
    folder: Annotated[Path, typer.Argument(help="A folder with a manifest.")],
    against: Annotated[
        Path | None,
        typer.Option(
            help="A manifest or ledger kept elsewhere, which the folder's manifest must equal.", metavar="FILE"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Compare every file of a model with its manifest. Exit code 1: one differs, and is named; 3: it cannot be read."""
    from pratique.inference.artifacts.manifest import UnreadableError, manifest_digest, read_manifest, verify
    from pratique.inference.artifacts.recorded import read_recorded
    from pratique.inference.errors import ArtifactError, UnsafeWeightsError

    try:
        recorded = read_recorded(against, read_manifest(folder).name) if against else None
        manifest = verify(folder, recorded=recorded)
    except (ArtifactError, UnsafeWeightsError) as error:
        code = _UNDECIDED if isinstance(error, UnreadableError) else _DIFFERS
        if as_json:
            verdict = "unreadable" if code == _UNDECIDED else "differs"
            _say_json(verdict=verdict, code=error.code, reason=error.message, hint=error.hint)
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        raise typer.Exit(code) from error
    if as_json:
        _say_json(
            verdict="as recorded",
            name=manifest.name,
            files=len(manifest.files),
            size_bytes=manifest.size_bytes,
            manifest_sha256=manifest_digest(manifest),
        )
        return
    print(f"{manifest.name}: {len(manifest.files)} files as recorded")


def _print_plan(plan: ImportPlan, *, as_json: bool) -> None:
    source = plan.source
    if as_json:
        _say_json(
            folder=str(plan.target),
            is_done=source is None,
            kind=source.kind.value if source else None,
            licence=source.licence if source else None,
            origin=source.origin if source else None,
            files=[path.name for path in source.files] if source else [],
            left_out=list(source.left_out) if source else [],
            needed_bytes=plan.needed_bytes,
        )
    elif source is None:
        print(f"{plan.target} is there: nothing to do", file=sys.stderr)
    else:
        print(
            f"would import {source.kind.value} from {source.origin} into {plan.target}: {len(source.files)} files,"
            f" licence {source.licence}, up to {plan.needed_bytes / 1e6:.0f} MB on disk",
            file=sys.stderr,
        )


def _with_bar(work: Callable[[Callable[[str, float], None]], Path]) -> Path:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    # Its text is data, not markup: brackets in a file's name are no styles.
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("importing the model", total=1.0)
        return work(lambda phase, share: bar.update(task, description=phase, completed=share))


def _tell_json(phase: str, share: float) -> None:
    if phase != "done":  # said with the folder, once it is
        _say_json(phase=phase, progress=share)


def _sandbox_json(report: SandboxReport) -> None:
    _say_json(sandbox={"enforced": list(report.enforced), "missing": dict(report.missing)})


def _sandbox_text(report: SandboxReport) -> None:
    print(f"sandbox: {report}", file=sys.stderr)


def _say_json(**fields: object) -> None:
    print(json.dumps({"schema_version": 1, **fields}), flush=True)


def _root(given: Path | None) -> Path:
    from pratique.inference.artifacts.store import default_model_root

    return given or default_model_root(os.environ)
