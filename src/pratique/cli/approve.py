"""`pratique approve` and `pratique review`: parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import (
    Config,
    IdentityTokenFile,
    Key,
    KmsKey,
    PasswordFile,
    Repository,
    TrustConfig,
    signer_by,
)
from pratique.core.errors import CallerError
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.policy.acts import ToReview
    from pratique.release.signing.interface import Attestation

__all__ = ["approve", "review"]

_Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="Of the artifact: sha256:….")]
_Environment = Annotated[str, typer.Option(help="Where it is to go, as the policy calls it.")]
_Author = Annotated[
    list[str] | None,
    typer.Option(help="E-mail address of who wrote the source, beside those that provenance names. May be repeated."),
]
_Policy = Annotated[Path | None, typer.Option(help="The reviewed policy. [promotion.toml]")]
_PolicyDigest = Annotated[str | None, typer.Option(help="The SHA-256 that the policy must have, sha256:….")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be signed, and sign nothing.")]


def approve(
    digest: _Digest,
    repository: Repository,
    environment: _Environment,
    reason: Annotated[str, typer.Option(help="Why; it is kept for good.")],
    hours: Annotated[float, typer.Option(help="For how long it holds.")] = 24.0,
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="In an emergency: in spite of rules that fail. Needs a second person.")
    ] = False,
    author: _Author = None,
    key: Key = None,
    password_file: PasswordFile = None,
    kms_key: KmsKey = None,
    identity_token_file: IdentityTokenFile = None,
    trust_config: TrustConfig = None,
    policy: _Policy = None,
    policy_digest: _PolicyDigest = None,
    config: Config = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Approve of an artifact as it is known now: sign that, lay it beside the artifact, record it.

    What the gate says is shown first, on standard error.
    """
    from pratique.cli import _release
    from pratique.release.policy import acts
    from pratique.release.policy.explain import explain

    wish = acts.Wish(reason=reason, valid_hours=hours, is_break_glass=break_glass)
    flags: dict[str, object] = {"key_file": key, "password_file": password_file, "kms_key": kms_key}
    flags |= {"identity_token_file": identity_token_file, "trust_config_file": trust_config}
    with _release.opened(config, None if dry_run else signer_by(**flags)) as rooms:
        asked = rooms.gate(policy, policy_digest)
        seen = asked.look(_release.question(digest, repository, environment, author))
        print(explain(seen.decision), file=sys.stderr)
        if dry_run:
            print(acts.approval_statement(asked.policy, seen.decision, wish).payload.decode())
            return
        made = acts.approve(rooms.desk(asked.policy), seen, wish)
    _print("approved", made, as_json=as_json)


def review(
    digest: _Digest,
    repository: Repository,
    environment: _Environment,
    reason: Annotated[str, typer.Option(help="Why; it is kept for good.")] = "",
    accept: Annotated[
        list[str] | None, typer.Option(help="A package that is accepted: its purl without version. May be repeated.")
    ] = None,
    author: _Author = None,
    key: Key = None,
    password_file: PasswordFile = None,
    kms_key: KmsKey = None,
    identity_token_file: IdentityTokenFile = None,
    trust_config: TrustConfig = None,
    policy: _Policy = None,
    policy_digest: _PolicyDigest = None,
    config: Config = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Show which changed dependencies the policy wants reviewed; with --accept, sign that they were."""
    from pratique.cli import _release
    from pratique.release.policy import acts

    flags: dict[str, object] = {"key_file": key, "password_file": password_file, "kms_key": kms_key}
    flags |= {"identity_token_file": identity_token_file, "trust_config_file": trust_config}
    with _release.opened(config, signer_by(**flags) if accept and not dry_run else None) as rooms:
        asked = rooms.gate(policy, policy_digest)
        seen = asked.look(_release.question(digest, repository, environment, author))
        listed = acts.changes_to_review(asked.policy, seen)
        if not accept:
            _print_changes(listed, as_json=as_json)
            return
        if len(listed) != 1:
            raise CallerError(
                f"Expected one diff against what is in production, got {len(listed)}.",
                hint="`pratique gate` says why; a wrong diff is revoked by its statement.",
            )
        statement = acts.review_statement(seen, listed[0].diff, accepted=accept, reason=reason)
        if dry_run:
            print(statement.payload.decode())
            return
        made = acts.review(rooms.desk(asked.policy), seen, statement)
    _print("reviewed", made, as_json=as_json)


def _print_changes(listed: tuple[ToReview, ...], *, as_json: bool) -> None:
    if as_json:
        diffs = [
            {"diff": one.diff, "changes": [{"change": change, "why": why} for change, why in one.changes]}
            for one in listed
        ]
        print(msgspec.json.encode({"schema_version": 1, "diffs": diffs}).decode())
        return
    for one in listed:
        print(f"diff {one.diff}: {len(one.changes)} to review")
        for change, why in one.changes:
            print(plain(f"  {change.package} {change.before or '-'} → {change.after or '-'}: {why}"))


def _print(what: str, made: Attestation, *, as_json: bool) -> None:
    if as_json:
        said = {"statement": made.statement.digest, "bundle": made.bundle, "signer": str(made.signer)}
        print(msgspec.json.encode({"schema_version": 1, **said}).decode())
        return
    print(f"{what} by {made.signer}: statement {made.statement.digest}")
