"""`pratique evidence collect | report | vex | review | show | attach`: parse, call, render.

A statement is kept in a file of its own, as the bytes that are to be signed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, get_args

import msgspec
import typer

from pratique.cli._evidence_attach import attach, read_statement
from pratique.cli._release import time_of
from pratique.cli._signing import Config, Repository
from pratique.core.clock import SystemClock
from pratique.core.errors import CallerError
from pratique.core.settings import load_settings
from pratique.release.plain import plain
from pratique.release.predicates import DEPENDENCY_REVIEW, VEX, VULNERABILITIES
from pratique.release.values import parse_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pratique.release.evidence.collecting import Collected, Plan
    from pratique.release.evidence.interface import Image
    from pratique.release.settings import ReleaseSettings
    from pratique.release.statements import Statement

__all__ = ["app"]

app = typer.Typer(help="Collect what there is to say about an image, show it, sign it.", no_args_is_help=True)
app.command("attach")(attach)

_Layout = Annotated[Path, typer.Argument(help="Folder with the image in OCI layout.", metavar="LAYOUT")]
_LayoutOrDigest = Annotated[
    str, typer.Argument(help="Folder with the image in OCI layout; or its digest in the repository.", metavar="IMAGE")
]
_Output = Annotated[Path, typer.Option(help="A new file for the statement.")]
_Sbom = Annotated[Path, typer.Option(help="The statement of the image's bill of materials.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Check what is given, and write nothing.")]


@app.command("collect")
def collect(
    image: _LayoutOrDigest,
    repository: Repository,
    output: Annotated[Path, typer.Option(help="Folder for the statements, a file each.")],
    sbom: Annotated[Path | None, typer.Option(help="A bill of materials made before. [one is made]")] = None,
    advisories: Annotated[Path | None, typer.Option(help="The advisory database. [of the settings]")] = None,
    scan: Annotated[bool, typer.Option("--scan/--no-scan", help="Look components up in the database.")] = True,
    hygiene: Annotated[bool, typer.Option("--hygiene/--no-hygiene", help="Look at what it should not carry.")] = True,
    dockerfile: Annotated[Path | None, typer.Option(help="What it was built from, to lint.")] = None,
    record: Annotated[Path | None, typer.Option(help="The build's record, for the provenance.")] = None,
    author: Annotated[list[str] | None, typer.Option(help="E-mail address of who wrote the source; repeated.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Digest in production, for the dependency diff.")] = None,
    baseline_sbom: Annotated[Path | None, typer.Option(help="Its bill of materials, a statement.")] = None,
    first: Annotated[bool, typer.Option("--first", help="Nothing is in production: everything is new.")] = False,
    config: Config = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Look at an image, and write each piece of evidence as a statement, ready to be signed."""
    from pratique.release.evidence.collecting import Plan, collect_all
    from pratique.release.evidence.hygiene.collector import HygieneCollector

    if first and (baseline or baseline_sbom):
        raise CallerError("--first means that there is no --baseline.")
    settings = _settings(config)
    plan = Plan(
        settings=settings.evidence,
        sbom=read_statement(sbom) if sbom else None,
        database=(advisories or settings.advisories.database) if scan else None,
        record=record,
        authors=tuple(author or ()),
        compare=first or baseline is not None,
        baseline=parse_digest(baseline) if baseline else None,
        baseline_sbom=read_statement(baseline_sbom) if baseline_sbom else None,
        others=(HygieneCollector(settings.hygiene, dockerfile),) if hygiene else (),
    )
    with _opened(image, repository, settings) as opened:
        _require_inputs(plan, opened)
        _say_what_is_left_out(plan)
        if dry_run:
            _say(f"would collect evidence about {opened.subject.digest} into {output}")
            return
        found = collect_all(opened, plan, SystemClock(), say=_say)
    output.mkdir(parents=True, exist_ok=True)
    for one in found:
        (output / f"{one.name}.json").write_bytes(one.statement.payload)
    _show_collected(opened, found, output, as_json=as_json)


@app.command("report")
def report(
    scanned: Annotated[Path, typer.Argument(help="JSON of Trivy or Grype.", metavar="REPORT")],
    layout: _Layout,
    repository: Repository,
    sbom: _Sbom,
    output: _Output,
    database_updated_at: Annotated[
        str | None, typer.Option(help="Of the scanner's database, where the report does not say it.")
    ] = None,
    num_components: Annotated[
        int | None, typer.Option(min=1, help="Looked at, where the report does not say it (Grype).")
    ] = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Take another scanner's report of an image as its scan."""
    from pratique.release.evidence.images import open_layout
    from pratique.release.evidence.reports import ReportOf, read_report
    from pratique.release.evidence.vulnerabilities import require_sbom
    from pratique.release.statements import make_statement

    image, statement = open_layout(layout, repository), read_statement(sbom)
    require_sbom(statement, image)
    about = ReportOf(
        image=image.subject.digest,
        config=image.config,
        sbom=statement,
        database_updated_at=time_of(database_updated_at, "--database-updated-at"),
        num_components=num_components,
    )
    made = make_statement(image.subject.digest, VULNERABILITIES, read_report(_bytes(scanned), about))
    _write(output, made, as_json=as_json, dry_run=dry_run)


@app.command("vex")
def vex(
    digest: Annotated[str, typer.Argument(help="Of the image: sha256:….", metavar="DIGEST")],
    vulnerability: Annotated[str, typer.Option(help="Its name: CVE-…, GHSA-…, PYSEC-….")],
    status: Annotated[str, typer.Option(help="not_affected, affected, fixed or under_investigation.")],
    author: Annotated[str, typer.Option(help="Who states it, for people: who signs it is the author.")],
    note: Annotated[str, typer.Option(help="Why; of affected, what is to be done.")],
    output: _Output,
    justification: Annotated[
        str | None, typer.Option(help="Of not_affected, as OpenVEX names them. [the note is the impact statement]")
    ] = None,
    package: Annotated[
        list[str] | None, typer.Option(help="Package URL of a component, as the scan has it; repeated. [the image]")
    ] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name of the vulnerability; repeated.")] = None,
    expires: Annotated[str | None, typer.Option(help="Until when it holds, RFC 3339. [as the policy says]")] = None,
    name: Annotated[str, typer.Option(help="The last part of the repository's name.")] = "image",
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """State what a vulnerability means for an image (OpenVEX)."""
    from pratique.release import openvex
    from pratique.release.statements import make_statement

    image = parse_digest(digest)
    said = openvex.Assertion(
        vulnerability=vulnerability,
        aliases=tuple(alias or ()),
        packages=tuple(package or ()),
        status=_one_of(status, openvex.Status, "--status"),
        justification=_one_of(justification, openvex.Justification, "--justification") if justification else None,
        note=note,
        expires_at=time_of(expires, "--expires"),
    )
    now = datetime.fromtimestamp(int(SystemClock().epoch()), UTC)
    made = make_statement(image, VEX, openvex.make_document(image, name, author, said, now=now))
    _write(output, made, as_json=as_json, dry_run=dry_run)


@app.command("review")
def review(
    diff: Annotated[Path, typer.Argument(help="The statement of the dependency diff.", metavar="DIFF")],
    reason: Annotated[str, typer.Option(help="Why they are accepted; it is kept for good.")],
    output: _Output,
    accept: Annotated[list[str] | None, typer.Option(help="A package of the diff; repeated.")] = None,
    accept_all: Annotated[bool, typer.Option("--all", help="Every package of the diff.")] = False,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Accept changes of dependencies, for somebody to sign."""
    from pratique.release.evidence.diff import review_of
    from pratique.release.predicates import DependencyDiff
    from pratique.release.statements import make_statement

    statement = read_statement(diff)
    accepted = tuple(accept or ())
    if accept_all == bool(accepted):
        raise CallerError("Say which packages are accepted: --accept, or --all.")
    if accept_all:
        accepted = tuple(change.package for change in statement.read(DependencyDiff).changes)
    made = make_statement(
        parse_digest(statement.subjects[0]), DEPENDENCY_REVIEW, review_of(statement, accepted, reason)
    )
    _write(output, made, as_json=as_json, dry_run=dry_run)


@app.command("show")
def show(
    files: Annotated[list[Path], typer.Argument(help="Statements.", metavar="FILE…")], as_json: _Json = False
) -> None:
    """Show what statements say. Whether anybody signed them is another question."""
    from pratique.cli._evidence_view import lines_of

    statements = [(file, read_statement(file)) for file in files]
    if as_json:
        rows = [
            {
                "file": str(file),
                "statement": one.digest,
                "subjects": one.subjects,
                "predicate_type": one.predicate_type,
                "predicate": msgspec.Raw(one.predicate),
            }
            for file, one in statements
        ]
        print(msgspec.json.encode({"schema_version": 1, "statements": rows}).decode())
        return
    for file, one in statements:
        print(f"{file}: {plain(one.predicate_type)}\n  {one.digest}, about {', '.join(one.subjects)}")
        for line in lines_of(one):
            print(f"  {line}")


def _settings(config: Path | None) -> ReleaseSettings:
    from pratique.release.settings import ReleaseSettings

    return load_settings(ReleaseSettings, part="release", file=config, environment=os.environ)


@contextmanager
def _opened(image: str, repository: str, settings: ReleaseSettings) -> Iterator[Image]:
    """Open an image where it lies; one in a repository is pulled, for as long as it is looked at."""
    from pratique.cli._signing import open_registry
    from pratique.release.evidence.images import open_layout, pull
    from pratique.release.values import Subject

    if not image.startswith("sha256:"):
        if not Path(image).is_dir():
            raise CallerError(
                f"there is no folder {image}", hint="Name the folder `image` that `pratique build` wrote, or a digest."
            )
        yield open_layout(Path(image), repository)
        return
    with TemporaryDirectory(prefix="pratique-image-") as folder:
        yield pull(open_registry(settings), Subject(repository, parse_digest(image)), Path(folder))


def _require_inputs(plan: Plan, image: Image) -> None:
    """Look up what is needed before the work begins, which takes seconds."""
    from pratique.release.advisories.database import AdvisoryDatabase
    from pratique.release.evidence.provenance import record_of
    from pratique.release.evidence.sbom import find_syft

    if plan.sbom is None:
        find_syft()
    if plan.database is not None:
        AdvisoryDatabase(plan.database).close()
    if plan.record is not None:
        record_of(plan.record, image)


def _say_what_is_left_out(plan: Plan) -> None:
    left_out = {
        "no scan: --no-scan": plan.database is None,
        "no dependency diff: say --baseline, or --first": not plan.compare,
        "no provenance: say --record": plan.record is None,
        "no hygiene: --no-hygiene": not plan.others,
    }
    for what, is_left_out in left_out.items():
        if is_left_out:
            _say(what)


def _show_collected(image: Image, found: Iterable[Collected], output: Path, *, as_json: bool) -> None:
    from pratique.cli._evidence_view import lines_of

    if as_json:
        rows = [
            {
                "name": one.name,
                "predicate_type": one.statement.predicate_type,
                "statement": one.statement.digest,
                "file": str(output / f"{one.name}.json"),
            }
            for one in found
        ]
        facts = {"schema_version": 1, "image": image.subject.digest, "evidence": rows}
        print(msgspec.json.encode(facts).decode())
        return
    for one in found:
        print(f"{one.name}: {output / f'{one.name}.json'}\n  {one.statement.digest}")
        for line in lines_of(one.statement):
            print(f"  {line}")


def _bytes(file: Path) -> bytes:
    from pratique.release.evidence.reports import MAX_REPORT_BYTES

    try:
        with file.open("rb") as opened:
            return opened.read(MAX_REPORT_BYTES + 1)
    except OSError as error:
        raise CallerError(f"{file} cannot be read: {error.strerror}.") from error


def _write(output: Path, statement: Statement, *, as_json: bool, dry_run: bool) -> None:
    if dry_run:
        _say(f"would write {statement.digest} to {output}")
        return
    try:
        with output.open("xb") as file:
            file.write(statement.payload)
    except FileExistsError as error:
        raise CallerError(f"{output} is there already.", hint="Name a new file.") from error
    except OSError as error:
        raise CallerError(f"{output} cannot be written: {error.strerror}.") from error
    if as_json:
        facts = {"predicate_type": statement.predicate_type, "statement": statement.digest, "file": str(output)}
        print(msgspec.json.encode({"schema_version": 1, **facts}).decode())
        return
    print(f"{statement.digest}  {output}")


def _one_of(text: str, kind: Any, flag: str) -> Any:  # noqa: ANN401 - a Literal, and one of its words
    if text not in get_args(kind):
        raise CallerError(f"{flag} {text}: expected one of {', '.join(get_args(kind))}.")
    return text


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
