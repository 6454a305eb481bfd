"""`pratique ledger verify | show | export`: parse, call, render. Nothing here changes a ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import msgspec
import typer

from pratique.cli._signing import Config, Json, release_settings, signing_of
from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.release.ledger.interface import Entry, EntryKind
    from pratique.release.ledger.verified import VerifiedLedger

__all__ = ["app"]

app = typer.Typer(help="Verify, show and export the ledger of releases.", no_args_is_help=True)

_File = Annotated[Path | None, typer.Option(help="An SQLite ledger, instead of what is configured.")]
_Name = Annotated[str | None, typer.Option(help="The ledger's name. [releases]")]
_Key = Annotated[
    list[Path] | None, typer.Option(help="A public key whose heads are believed. May be repeated. [public_keys]")
]
_TrustedRoot = Annotated[Path | None, typer.Option(help="trusted_root.json. [Sigstore's public instance]")]


@app.command("verify")
def verify(
    file: _File = None,
    name: _Name = None,
    key: _Key = None,
    trusted_root: _TrustedRoot = None,
    witness: Annotated[
        Path | None, typer.Option(help="A head that was kept before: the ledger must continue it.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check every link and the signature of every head."""
    from pratique.release.ledger.witness import load_witness

    kept = load_witness(witness) if witness is not None else None
    with _opened(file, name, key, trusted_root, config) as ledger:
        size = ledger.verify()
        if kept is not None:
            ledger.require_continues(kept)
        mark = ledger.mark
    if as_json:
        told = {"schema_version": 1, "ledger": mark.ledger, "size": size, "hash": mark.hash, "witnessed": bool(kept)}
        print(msgspec.json.encode(told).decode())
        return
    print(f"'{mark.ledger}' holds: {size} entries, head {mark.hash}")


@app.command("show")
def show(
    file: _File = None,
    name: _Name = None,
    key: _Key = None,
    trusted_root: _TrustedRoot = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only entries of this kind. May be repeated.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only entries about this digest.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only entries about this environment.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    head: Annotated[
        bool, typer.Option("--head", help="Show the last signed head; with --json it can be kept.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the newest entries, or the head."""
    import itertools

    from pratique.release.ledger.lines import entry_object, head_object
    from pratique.release.values import parse_digest

    about = parse_digest(subject) if subject is not None else None
    with _opened(file, name, key, trusted_root, config) as ledger:
        if head:
            last = ledger.head()
            told = msgspec.json.encode(head_object(ledger.name, last)).decode()
            print(told if as_json else f"'{ledger.name}' has {last.size} entries, head {last.hash}")
            return
        wanted = ledger.entries(kinds=_kinds(kind), subject=about, environment=environment, newest_first=True)
        found = list(itertools.islice(wanted, limit))
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "entries": [entry_object(one) for one in found]}).decode())
        return
    for entry in found:
        print(_line(entry))


@app.command("export")
def export(
    file: _File = None,
    name: _Name = None,
    key: _Key = None,
    trusted_root: _TrustedRoot = None,
    config: Config = None,
) -> None:
    """Write all entries as lines of JSON, the oldest first; the last line is the signed head."""
    from pratique.release.ledger.lines import entry_object, head_object

    with _opened(file, name, key, trusted_root, config) as ledger:
        head = ledger.head()
        for entry in ledger.entries():
            if entry.index < head.size:  # others may have added some meanwhile, which this head does not cover
                print(msgspec.json.encode({"schema_version": 1, **entry_object(entry)}).decode())
        print(msgspec.json.encode(head_object(ledger.name, head)).decode())


@contextlib.contextmanager
def _opened(
    file: Path | None, name: str | None, key: list[Path] | None, trusted_root: Path | None, config: Path | None
) -> Iterator[VerifiedLedger]:
    from pratique.release.ledger.build import open_ledger
    from pratique.release.signing.build import open_verifier

    settings = release_settings(config)
    given = {"file": file, "backend": "sqlite" if file is not None else None, "name": name}
    ledger = msgspec.structs.replace(settings.ledger, **{k: v for k, v in given.items() if v is not None})
    signing = signing_of(settings, public_keys=tuple(key) if key else None, trusted_root_file=trusted_root)
    with open_ledger(ledger, open_verifier(signing)) as opened:
        yield opened


def _kinds(names: list[str] | None) -> tuple[EntryKind, ...]:
    from pratique.release.ledger.interface import EntryKind

    known: tuple[EntryKind, ...] = get_args(EntryKind)
    for one in names or ():
        if one not in known:
            raise CallerError(f"there is no kind '{one[:100]}' of entry", hint=f"One of: {', '.join(known)}.")
    return tuple(one for one in known if one in (names or ()))


def _line(entry: Entry) -> str:
    place = f" in {entry.environment}" if entry.environment else ""
    return f"{entry.index} {entry.at:%Y-%m-%d %H:%M:%S}Z {entry.kind} {entry.subject}{place} by {entry.actor}"
