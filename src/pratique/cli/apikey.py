"""`pratique keys create | list | rotate | revoke` (and `apikey`, its older name): parse, call, render."""

from __future__ import annotations

import getpass
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.orchestrator.access.keys import ApiKey
    from pratique.orchestrator.access.scopes import Scope

__all__ = ["app"]

app = typer.Typer(help="Create, list, rotate and revoke API keys.", no_args_is_help=True)

_File = Annotated[Path, typer.Option(help="The keys file that the orchestrators read (`api_keys_file`).")]
_Id = Annotated[str, typer.Argument(help="The id that `list` shows.", metavar="ID")]
_Expires = Annotated[str | None, typer.Option(help="When it ends: 90d, 12h, 2027-01-31. Otherwise never.")]
_Audit = Annotated[Path | None, typer.Option(help="Add a line to this audit log.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")


@app.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="Whose or what for.")],
    file: _File,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do: chat, openai, admin; may be repeated. [chat, openai]")
    ] = None,
    expires: _Expires = None,
    tier: Annotated[str, typer.Option(help="Which of the configured limits apply to it.")] = "",
    audit_file: _Audit = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Make a key and print it, once: only its hash is stored."""
    from pratique.orchestrator.access.keyring import ApiKeyring

    scopes, ends = _scopes(scope or []), _end(expires)
    if dry_run:
        print(f"would create a key named '{name}' in {file}", file=sys.stderr)
        return
    entry, text = ApiKeyring(file).create(name, scopes=scopes, expires=ends, tier=tier)
    _audit(audit_file, "key.create", entry.id)
    _show_new(entry, text, as_json=as_json)


@app.command("list")
def list_keys(file: _File, as_json: _Json = False) -> None:
    """List the keys, ended ones included; never the keys themselves."""
    from pratique.orchestrator.access.keyring import ApiKeyring
    from pratique.orchestrator.access.usage import last_used

    for entry in ApiKeyring(file).entries():
        used = last_used(file, entry.id)
        if as_json:
            _print_json({**_fields(entry), "last_used": used})
            continue
        scopes = ",".join(sorted(scope.value for scope in entry.granted))
        seen = _day(used) if used is not None else "-"
        print(f"{entry.id}  created {_day(entry.created)}  {_state(entry)}  {scopes}  used {seen}  {entry.name}")


@app.command("rotate")
def rotate_key(
    key_id: _Id,
    file: _File,
    overlap: Annotated[str, typer.Option(help="How long the old key still holds: 0s, 30m, 7d.")] = "1d",
    expires: _Expires = None,
    audit_file: _Audit = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Make a key in place of another one: same name, scopes and conversations. The old one ends after the overlap."""
    from pratique.orchestrator.access.keyring import ApiKeyring

    overlap_seconds, ends = _seconds(overlap), _end(expires)
    if dry_run:
        print(f"would rotate {key_id} in {file}", file=sys.stderr)
        return
    entry, text = ApiKeyring(file).rotate(key_id, overlap_seconds=overlap_seconds, expires=ends)
    _audit(audit_file, "key.rotate", key_id, detail=f"replaced by {entry.id}")
    _show_new(entry, text, as_json=as_json)


@app.command("revoke")
def revoke_key(
    key_id: _Id,
    file: _File,
    audit_file: _Audit = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Refuse a key from now on, on every replica within a second."""
    from pratique.orchestrator.access.keyring import ApiKeyring

    if dry_run:
        print(f"would revoke {key_id} in {file}", file=sys.stderr)
        return
    entry = ApiKeyring(file).revoke(key_id)
    _audit(audit_file, "key.revoke", key_id)
    if as_json:
        _print_json(_fields(entry))
        return
    print(f"{entry.id} '{entry.name}' is revoked since {_day(entry.revoked or 0)}", file=sys.stderr)


def _show_new(entry: ApiKey, text: str, *, as_json: bool) -> None:
    if as_json:
        _print_json({**_fields(entry), "key": text})
        return
    print(text)
    print(f"'{entry.name}' is {entry.id}. This key is not shown again.", file=sys.stderr)


def _fields(entry: ApiKey) -> dict[str, object]:
    return {
        "id": entry.id,
        "name": entry.name,
        "created": entry.created,
        "revoked": entry.revoked,
        "expires": entry.expires,
        "scopes": sorted(scope.value for scope in entry.granted),
        "principal": entry.owner,
        "tier": entry.tier,
    }


def _scopes(names: list[str]) -> list[Scope]:
    from pratique.orchestrator.access.scopes import Scope

    try:
        return [Scope(name) for name in names]
    except ValueError as error:
        known = ", ".join(scope.value for scope in Scope)
        raise CallerError(f"Expected scopes out of {known}; found '{', '.join(names)}'.") from error


def _end(text: str | None) -> float | None:
    if text is None:
        return None
    if _DURATION.fullmatch(text):
        return time.time() + _seconds(text)
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise CallerError(f"Expected an end such as 90d, 12h or 2027-01-31; found '{text}'.") from error


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CallerError(f"Expected a time such as 30m, 12h or 7d; found '{text}'.")
    return float(found[1]) * _UNIT_SECONDS[found[2]]


def _audit(file: Path | None, action: str, subject: str, *, detail: str = "") -> None:
    if file is None:
        return
    from pratique.orchestrator.access.audit import AuditEvent
    from pratique.orchestrator.access.auditing import append_record

    event = AuditEvent(
        action=action, outcome="ok", principal_id=f"os:{getpass.getuser()}", subject=subject, detail=detail
    )
    append_record(file, event)


def _state(entry: ApiKey) -> str:
    if entry.revoked is not None:
        return f"revoked {_day(entry.revoked)}"
    if entry.expires is None:
        return "active"
    return f"{'active until' if entry.holds(time.time()) else 'expired'} {_day(entry.expires)}"


def _print_json(fields: dict[str, object]) -> None:
    print(msgspec.json.encode({"schema_version": 1, **fields}).decode())


def _day(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d")
