"""`pratique audit`: parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import Config, ImageDigest, Json

if TYPE_CHECKING:
    from pratique.cli._release import Rooms
    from pratique.release.policy.decision import Unknown
    from pratique.release.policy.gate import Gate

__all__ = ["audit"]


def audit(
    digest: ImageDigest,
    repository: Annotated[
        str | None,
        typer.Option(envvar="PRATIQUE_REPOSITORY", help="Where it lies: host/path, without a tag. [the ledger tells]"),
    ] = None,
    environment: Annotated[str, typer.Option(help="For which the gate is asked what it says now.")] = "production",
    policy: Annotated[Path | None, typer.Option(help="The policy. [file of the settings]")] = None,
    policy_digest: Annotated[str | None, typer.Option(help="The SHA-256 that it must have, sha256:….")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML page to this file.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Prove a digest link by link: signature, commit, build, contents, decisions, releases; each verified now.

    Exit code 0: all hold; 1: something does not hold; 3: it could not be decided.
    """
    from pratique.cli._release import opened
    from pratique.release.audit.gathering import Auditor, find_subject
    from pratique.release.audit.rendering import render_html, render_text
    from pratique.release.values import Subject, parse_digest

    wanted = parse_digest(digest)
    with opened(config) as rooms:
        ledger = rooms.ledger
        subject = Subject(repository, wanted) if repository is not None else find_subject(ledger, wanted)
        gate = _gate(rooms, policy, policy_digest)
        report = Auditor(ledger, rooms.load_dossier, gate, environment, rooms.clock).audit(subject)
    if html is not None:
        _write(html, render_html(report))
    print(msgspec.json.encode(report).decode() if as_json else render_text(report))
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _gate(rooms: Rooms, file: Path | None, digest: str | None) -> Gate | Unknown:
    """Open the gate; where there is no policy at all, the rest is audited without."""
    from pratique.release.policy.decision import Unknown

    named = file or rooms.policy.file or Path("promotion.toml")
    if file is None and digest is None and not named.exists():
        return Unknown(f"there is no policy {named}: nobody says whose word counts")
    return rooms.gate(file, digest)


def _write(file: Path, page: str) -> None:
    from pratique.core.errors import CallerError

    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise CallerError(f"{file} cannot be written: {error.strerror}") from error
    print(f"wrote {file}", file=sys.stderr)
