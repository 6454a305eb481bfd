"""`pratique triage`: parse, call, render."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import Config, Json, release_settings
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.triage.answer import Answer, ReachNote, RunningImage

__all__ = ["print_answer", "triage"]

_SHOWN = 20


def triage(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="CVE-…, PYSEC-…, GHSA-…, or PACKAGE@RANGE.")],
    index: Annotated[Path | None, typer.Option(help="The index's file. [index of the settings]")] = None,
    database: Annotated[Path | None, typer.Option(help="The advisories' file. [database of the settings]")] = None,
    all_images: Annotated[
        bool, typer.Option("--all", help="List every affected image, also those that do not run.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say which images are affected, which of them run, where, since when, and how they came by it.

    Exit code 0: none is affected; 1: some are, or may be; 3: it could not be decided.
    """
    from pratique.release.advisories.database import AdvisoryDatabase
    from pratique.release.triage.asking import ask
    from pratique.release.triage.index import TriageIndex
    from pratique.release.triage.question import PackageRange, parse_question

    settings, asked = release_settings(config), parse_question(question)
    with ExitStack() as stack:
        opened = stack.enter_context(TriageIndex(index or settings.triage.index))
        data = None
        if not isinstance(asked, PackageRange):
            data = stack.enter_context(AdvisoryDatabase(database or settings.advisories.database))
        answer = ask(asked, opened, data, max_images=None if all_images else _SHOWN)
    if as_json:
        print(msgspec.json.encode(answer).decode())
    else:
        print_answer(answer)
    if answer.exit_code:
        raise typer.Exit(answer.exit_code)


def print_answer(answer: Answer) -> None:
    """Show an answer to people."""
    for advisory in answer.advisories:
        names = "/".join((advisory.id, *advisory.aliases))
        print(plain(f"{names}  severity {advisory.severity}  {advisory.summary[:100]}".rstrip()))
    for component in answer.components:
        fixed = f", fixed in {', '.join(component.fixed_in)}" if component.fixed_in else ", no fix is known"
        doubt = " (undetermined: counts as affected)" if component.verdict == "undetermined" else ""
        print(plain(f"  {component.package}: {component.num_images} images{fixed}{doubt}"))
    for image in answer.running:
        _print_running(image)
    running = {image.digest for image in answer.running}
    for digest in answer.images:
        if digest not in running:
            print(f"{digest}  not running")
    if len(answer.images) < answer.num_images:
        print("and more that do not run: --all lists them", file=sys.stderr)
    for image in answer.unknown:
        places = ", ".join(f"{one.environment} since {one.since.isoformat()}" for one in image.places)
        print(f"UNKNOWN: {image.digest} runs in {places}, and nobody knows here what it is made of", file=sys.stderr)
    told = f"{answer.num_images} of {answer.num_images_known} images are affected, {len(answer.running)} of them run"
    print(told, file=sys.stderr)


def _print_running(image: RunningImage) -> None:
    print(f"{image.digest}  {image.repository}")
    for one in image.places:
        print(f"  RUNS in {one.environment} as {one.role} on {one.target} since {one.since.isoformat()}")
    for reached in image.reached:
        print(f"  by {plain(reached.package)}: {_how(reached)}")


def _how(reached: ReachNote) -> str:
    told = []
    if reached.layer:
        told.append(f"{'the base image, ' if reached.is_base else ''}layer {reached.layer[:19]}…, {reached.location}")
    if reached.chain:
        told.append(" → ".join(reached.chain))
    return plain("; ".join(told)) or "its bill of materials does not say how"
