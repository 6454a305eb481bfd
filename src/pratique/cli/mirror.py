"""`pratique mirror sync | serve | explain | propose | check`: parse, call, render."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import Config
from pratique.core.clock import SystemClock
from pratique.core.errors import CallerError
from pratique.core.events import configure_events
from pratique.core.settings import load_settings
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.mirror.approved import Approved
    from pratique.release.mirror.proposing import Reviewer
    from pratique.release.mirror.settings import MirrorSettings
    from pratique.release.mirror.starting import Proposed
    from pratique.release.settings import ReleaseSettings

__all__ = ["app"]

app = typer.Typer(help="A package index that serves only what is approved.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_Approved = Annotated[Path | None, typer.Option(help="The approved file. [approved of the settings]")]
_Store = Annotated[Path | None, typer.Option(help="The store's folder. [store of the settings]")]
_REFUSED, _UNDECIDED = 1, 3


@app.command("sync")
def sync(
    folder: Annotated[Path | None, typer.Option("--from", help="A folder of files. [the upstream index]")] = None,
    approved: _Approved = None,
    store: _Store = None,
    config: Config = None,
    as_json: _Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and fetch nothing.")] = False,
) -> None:
    """Bring approved files into the store. Exit code 1: a hash differs, or an approved file is not offered."""
    from pratique.release.mirror.shelf import load_approved
    from pratique.release.mirror.sources import FolderSource, HttpIndex
    from pratique.release.mirror.store import MirrorStore
    from pratique.release.mirror.sync import SyncRequest
    from pratique.release.mirror.sync import sync as sync_from

    settings = _settings(config, approved, store)
    configure_events(service="mirror")
    source = HttpIndex(settings) if folder is None else FolderSource(folder)
    request = SyncRequest(is_upstream=folder is None, is_dry_run=dry_run, max_file_bytes=settings.max_file_bytes)
    report = sync_from(load_approved(settings.approved), source, MirrorStore(settings.store), request, say=_say)
    if as_json:
        print(msgspec.json.encode(report).decode())
    if report.is_refused:
        raise typer.Exit(_REFUSED)


@app.command("serve")
def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen. [host of the settings]")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0: any free port. [8083]")] = None,
    approved: _Approved = None,
    store: _Store = None,
    config: Config = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve the index until told to stop."""
    from pratique.release.mirror.server import serve as serve_mirror

    settings = _settings(config, approved, store)
    settings = msgspec.structs.replace(
        settings, host=host or settings.host, port=settings.port if port is None else port
    )
    configure_events(service="mirror", level=log_level)
    serve_mirror(settings, announce=lambda url: print(f"listening on {url}", flush=True))


@app.command("explain")
def explain(
    wanted: Annotated[str, typer.Argument(help="NAME or NAME==VERSION.", metavar="NAME[==VERSION]")],
    approved: _Approved = None,
    store: _Store = None,
    config: Config = None,
    as_json: _Json = False,
) -> None:
    """Say whether something is served, why not, and what to do. Exit code 1: it is not."""
    from pratique.release.mirror.deciding import explain as explain_it
    from pratique.release.mirror.names import normal
    from pratique.release.mirror.shelf import Shelf

    name, _, version = wanted.partition("==")
    configure_events(service="mirror", level="error")
    shelf = Shelf(_settings(config, approved, store))
    shelf.recheck(normal(name.strip()))
    found = explain_it(shelf.catalogue(), name.strip(), version.strip())
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, **msgspec.to_builtins(found)}).decode())
    else:
        print("\n".join(map(plain, filter(None, [f"{found.code}: {found.reason}", found.mend]))))
    if not found.is_served:
        raise typer.Exit(_REFUSED)


@app.command("propose")
def propose(
    locks: Annotated[list[Path], typer.Argument(help="Locks with hashes.", metavar="LOCK…")],
    folder: Annotated[Path | None, typer.Option("--from", help="A folder of files. [the upstream index]")] = None,
    here: Annotated[bool, typer.Option("--here", help="Of each version only the file that this Python installs.")] = (
        False
    ),
    approved_by: Annotated[str, typer.Option(help="Who answers for it. [empty: to be filled in]")] = "",
    reason: Annotated[str, typer.Option(help="Why it is needed. [empty: to be filled in]")] = "",
    write: Annotated[bool, typer.Option("--write", help="Put it into the approved file. [it is printed]")] = False,
    approved: _Approved = None,
    config: Config = None,
    as_json: _Json = False,
) -> None:
    """Propose what locks need and nobody has approved yet, for review. Exit code 1: for something nothing can be."""
    from packaging.tags import sys_tags

    from pratique.release.mirror.approved import Approved
    from pratique.release.mirror.proposing import Reviewer
    from pratique.release.mirror.shelf import load_approved
    from pratique.release.mirror.sources import FolderSource, HttpIndex
    from pratique.release.mirror.starting import propose as propose_from

    release = _release(config)
    settings = _with(release.mirror, approved, None)
    before = load_approved(settings.approved) if settings.approved.exists() else Approved()
    source = HttpIndex(settings) if folder is None else FolderSource(folder)
    tags = tuple(sys_tags()) if here else None
    found = propose_from(locks, before, source, settings=release.lock, tags=tags, say=_say)
    today = datetime.fromtimestamp(SystemClock().epoch(), UTC).date()
    _show_proposed(found, before, Reviewer(approved_by, today, reason), settings.approved if write else None, as_json)
    if found.problems:
        raise typer.Exit(_REFUSED)


@app.command("check")
def check(
    base: Annotated[str, typer.Option(help="What is approved now: a file, or a revision of Git. Empty: nothing.")],
    offline: Annotated[
        Path | None, typer.Option(help="A file of facts about the projects. [the upstream is asked]")
    ] = None,
    database: Annotated[Path | None, typer.Option(help="Advisories. [database of their settings]")] = None,
    approved: _Approved = None,
    config: Config = None,
    as_json: _Json = False,
) -> None:
    """Judge a change of the approved file. Exit codes: 0 nothing is against it; 1 refused; 3 something is not known."""
    from pratique.release.mirror.checking import CheckRequest, check_change

    release = _release(config)
    settings = _with(release.mirror, approved, None)
    request = CheckRequest(
        base=base,
        facts=offline,
        database=database or release.advisories.database,
        now=datetime.fromtimestamp(SystemClock().epoch(), UTC),
    )
    result = check_change(settings, request)
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        for one in result.findings:
            print(plain(f"{one.level:10}{one.rule:12}{f'{one.package} {one.version}'.strip()}: {one.message}"))
    _say(f"{result.num_new_files} new files: {result.verdict}")
    if result.verdict != "allowed":
        raise typer.Exit(_REFUSED if result.verdict == "refused" else _UNDECIDED)


def _show_proposed(found: Proposed, before: Approved, reviewer: Reviewer, file: Path | None, as_json: bool) -> None:
    from pratique.release.mirror.proposing import EMPTY, insert, render

    blocks = [(one.name, render(one, reviewer, before)) for one in found.proposals]
    if file is not None and blocks:
        text = file.read_text(encoding="utf-8") if file.exists() else EMPTY
        file.write_text(insert(text, blocks), encoding="utf-8")
        _say(f"wrote {file}: fill in what is empty, and have it reviewed")
    if as_json:
        rows = msgspec.to_builtins(found)
        print(msgspec.json.encode({"schema_version": 1, **rows}).decode())
    elif file is None:
        for name, block in blocks:
            print(f"# below {name}:\n{block}" if name in before.packages else block)
    for problem in found.problems:
        _say(f"not proposed: {problem}")
    _say(f"{len(found.proposals)} versions proposed, {len(found.problems)} not")


def _release(config: Path | None) -> ReleaseSettings:
    from pratique.release.settings import ReleaseSettings

    if config is not None and not config.is_file():
        raise CallerError(f"--config {config}: there is no such file")
    return load_settings(ReleaseSettings, part="release", file=config, environment=os.environ)


def _settings(config: Path | None, approved: Path | None, store: Path | None) -> MirrorSettings:
    return _with(_release(config).mirror, approved, store)


def _with(settings: MirrorSettings, approved: Path | None, store: Path | None) -> MirrorSettings:
    return msgspec.structs.replace(settings, approved=approved or settings.approved, store=store or settings.store)


def _say(line: str) -> None:
    print(plain(line), file=sys.stderr, flush=True)
