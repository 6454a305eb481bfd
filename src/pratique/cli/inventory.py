"""`pratique inventory add | sync`: parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import Config, DryRun, ImageDigest, Json, Repository, open_registry, release_settings
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.settings import ReleaseSettings
    from pratique.release.triage.index import TriageIndex
    from pratique.release.triage.inventory import Added, Stock, Trusts

__all__ = ["app"]

app = typer.Typer(help="Keep what images are made of and where they run, for triage.", no_args_is_help=True)

_Index = Annotated[Path | None, typer.Option(help="The index's file. [index of the settings]")]


@app.command("add")
def add(
    digest: ImageDigest,
    repository: Repository,
    index: _Index = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Read an image's signed bills of materials. Exit code 1: there is none that can be read."""
    from pratique.release.triage.index import TriageIndex
    from pratique.release.values import Subject, parse_digest

    settings, subject = release_settings(config), Subject(repository, parse_digest(digest))
    if dry_run:
        print(f"would read {repository}@{digest} into {index or settings.triage.index}", file=sys.stderr)
        return
    with TriageIndex(index or settings.triage.index, may_make=True) as opened:
        added = _stock(settings, opened).add(subject)
    _show([added], as_json=as_json)
    if not added.num_new + added.num_known:
        raise typer.Exit(1)


@app.command("sync")
def sync(
    index: _Index = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Read from the ledger what runs where, and of every image that it names what it is made of.

    Exit code 1: of an image nobody knows now what it is made of.
    """
    from pratique.release.ledger.build import open_ledger
    from pratique.release.signing.build import open_verifier
    from pratique.release.triage.index import TriageIndex

    settings = release_settings(config)
    if dry_run:
        print(f"would read '{settings.ledger.name}' into {index or settings.triage.index}", file=sys.stderr)
        return
    with (
        open_ledger(settings.ledger, open_verifier(settings.signing)) as ledger,
        TriageIndex(index or settings.triage.index, may_make=True) as opened,
    ):
        added = list(_stock(settings, opened).sync(ledger))
        num_places = len(opened.places())
    _show(added, as_json=as_json)
    print(f"{num_places} images take traffic", file=sys.stderr)
    if any(not one.num_new + one.num_known for one in added):
        raise typer.Exit(1)


def _stock(settings: ReleaseSettings, index: TriageIndex) -> Stock:
    from pratique.release.signing.build import open_verifier
    from pratique.release.signing.dossier import load_dossier
    from pratique.release.triage.inventory import Stock

    registry, verifier = open_registry(settings), open_verifier(settings.signing)
    return Stock(index, lambda subject: load_dossier(registry, subject, verifier), registry, _trusts(settings))


def _trusts(settings: ReleaseSettings) -> Trusts:
    """Say whose word counts: whom the policy names; where there is no policy, whose keys are accepted."""
    from pratique.release.policy.gate import read_policy
    from pratique.release.triage.inventory import is_by_key, named_by

    file = settings.policy.file or Path("promotion.toml")
    if settings.policy.file is None and not file.exists():
        return is_by_key
    return named_by(read_policy(file, expected=settings.policy.digest).document)


def _show(added: list[Added], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "images": added}).decode())
    for one in added:
        if not as_json:
            print(f"{one.subject.repository}@{one.subject.digest}: {one.num_new} new, {one.num_known} known")
        for problem in one.problems:
            print(plain(f"  {problem}"), file=sys.stderr)
