"""`pratique advisories import | show`: parse, call, render."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from pratique.cli._release import time_of
from pratique.cli._signing import Config
from pratique.core.clock import SystemClock
from pratique.core.errors import CallerError
from pratique.core.settings import load_settings
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.advisories.database import AdvisoryDatabase, DatabaseInfo
    from pratique.release.advisories.records import Advisory

__all__ = ["app"]

app = typer.Typer(help="Known vulnerabilities, offline: import them, look them up.", no_args_is_help=True)

_Database = Annotated[Path | None, typer.Option(help="The database's file. [database of the settings]")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command("import")
def import_(
    sources: Annotated[
        list[Path], typer.Argument(help="all.zip as OSV exports it by ecosystem, or a folder.", metavar="SOURCE…")
    ],
    as_of: Annotated[
        str | None, typer.Option(help="When they were fetched, RFC 3339. [the newest record of each tells]")
    ] = None,
    max_unreadable: Annotated[int, typer.Option(min=0, help="Leave out at most so many unreadable records.")] = 0,
    database: _Database = None,
    config: Config = None,
    as_json: _Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, and write nothing.")] = False,
) -> None:
    """Make the database anew of all sources; the old one is replaced once the new one is whole."""
    from pratique.release.advisories.importing import ImportRequest, import_advisories

    request = ImportRequest(
        sources=tuple(sources),
        database=database or _configured(config),
        now=datetime.fromtimestamp(SystemClock().epoch(), UTC),
        as_of=time_of(as_of, "--as-of"),
        max_unreadable=max_unreadable,
        is_dry_run=dry_run,
    )
    info = import_advisories(request, say=_say)
    for one in info.unreadable:
        _say(f"left out: {one}")
    _show_info(info, as_json=as_json)
    if dry_run:
        _say(f"would write {request.database}")


@app.command("show")
def show(
    name: Annotated[
        str | None, typer.Argument(help="An advisory by any name, or PACKAGE-URL@VERSION. [the database]")
    ] = None,
    database: _Database = None,
    config: Config = None,
    as_json: _Json = False,
) -> None:
    """Show the database, an advisory, or what concerns a package. Exit code 1: there is no such advisory."""
    from pratique.release.advisories.database import AdvisoryDatabase

    with AdvisoryDatabase(database or _configured(config)) as opened:
        if name is None:
            _show_info(opened.info, as_json=as_json)
        elif name.startswith("pkg:"):
            _show_package(opened, name, as_json=as_json)
        else:
            _show_advisories(opened.named(name), name, as_json=as_json)


def _configured(config: Path | None) -> Path:
    from pratique.release.settings import ReleaseSettings

    settings = load_settings(ReleaseSettings, part="release", file=config, environment=os.environ)
    return settings.advisories.database


def _show_info(info: DatabaseInfo, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(info).decode())
        return
    print(f"{info.num_advisories} advisories, {info.num_withdrawn} of them withdrawn")
    print(f"{info.num_without_severity} without a severity anywhere")
    print(f"{len(info.unreadable)} left out because they cannot be read")
    print(f"as of {info.updated_at.isoformat()}, imported {info.imported_at.isoformat()}")
    print(info.digest)
    for ecosystem, one in info.ecosystems.items():
        print(f"  {ecosystem}: {one.num_advisories} advisories about {one.num_packages} packages")


def _show_package(database: AdvisoryDatabase, text: str, *, as_json: bool) -> None:
    from pratique.release.advisories.matching import lookup_of
    from pratique.release.components import parse_purl

    lookup = lookup_of(parse_purl(text))
    if lookup is None or not database.knows(lookup):
        raise CallerError(
            f"nothing is known about the kind of '{text}', or it has no version",
            hint="Looked up are pkg:pypi/NAME@VERSION and pkg:deb/debian/NAME@VERSION?distro=debian-12, and the like.",
        )
    found = database.matches(lookup)
    if as_json:
        rows = [{**_fields(one.advisory), **_judged(one.judgement)} for one in found]
        print(msgspec.json.encode({"schema_version": 1, "package": text, "advisories": rows}).decode())
        return
    for one in found:
        fixed = f"; fixed in {', '.join(one.judgement.fixed_in)}" if one.judgement.fixed_in else ""
        verdict = f"{one.judgement.verdict}{fixed}"
        print(plain(f"{one.advisory.id}  {one.advisory.severity}  {verdict}  {one.advisory.summary[:80]}"))
    if not found:
        _say(f"no known vulnerability concerns {text}")


def _show_advisories(found: tuple[Advisory, ...], name: str, *, as_json: bool) -> None:
    if as_json:
        print(
            msgspec.json.encode({"schema_version": 1, "name": name, "advisories": list(map(_fields, found))}).decode()
        )
    for one in () if as_json else found:
        names = "/".join((one.id, *one.aliases, *one.upstream))
        withdrawn = f", withdrawn {one.withdrawn.date()}" if one.withdrawn else ""
        source = f" (from {one.severity_from})" if one.severity_from not in {"", one.id} else ""
        print(f"{plain(f'{names}: severity {one.severity}{source}{withdrawn}')}\n  {plain(one.summary)}")
        for affected in one.affected:
            print(plain(f"  {affected.ecosystem} {affected.name}: {_ranges(affected)}"))
    if not found:
        _say(f"no advisory has the name '{name}'")
        raise typer.Exit(1)


def _ranges(affected: Any) -> str:  # noqa: ANN401 - Affected, whose module is imported where it is used
    ranges = [
        one.problem or " ".join(f"{event.kind} {event.version}" for event in one.events) for one in affected.ranges
    ]
    return "; ".join([*ranges, *affected.versions]) or "no version is named"


def _fields(advisory: Advisory) -> dict[str, Any]:
    return msgspec.structs.asdict(advisory) | {
        "affected": [
            {
                "ecosystem": one.ecosystem,
                "name": one.name,
                "ranges": [
                    {
                        "type": span.type,
                        "events": [{event.kind: event.version} for event in span.events],
                        "problem": span.problem,
                    }
                    for span in one.ranges
                ],
                "versions": one.versions,
            }
            for one in advisory.affected
        ]
    }


def _judged(judgement: Any) -> dict[str, Any]:  # noqa: ANN401 - Judgement, whose module is imported where it is used
    return {"verdict": judgement.verdict, "fixed_in": judgement.fixed_in}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
