"""`pratique gate` and `pratique revoke`: parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer

from pratique.cli._signing import Config, Repository, signer_by

__all__ = ["gate", "revoke"]

_Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="Of the artifact: sha256:….")]
_Environment = Annotated[str, typer.Option(help="Where it is to go, as the policy calls it.")]
_Author = Annotated[
    list[str] | None,
    typer.Option(help="E-mail address of who wrote the source, beside those that provenance names. May be repeated."),
]
_Policy = Annotated[Path | None, typer.Option(help="The reviewed policy. [promotion.toml]")]
_PolicyDigest = Annotated[str | None, typer.Option(help="The SHA-256 that the policy must have, sha256:….")]
_Actor = Annotated[str | None, typer.Option(help="Who does this, for the ledger. [the user]")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and record nothing.")]


def gate(
    digest: _Digest,
    repository: Repository,
    environment: _Environment,
    author: _Author = None,
    policy: _Policy = None,
    policy_digest: _PolicyDigest = None,
    config: Config = None,
    actor: _Actor = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Decide whether an artifact may go somewhere, by its evidence and a reviewed policy; record the decision.

    Exit code 0: allowed; 1: blocked; 3: it could not be decided. Neither of the last two ships.
    """
    from pratique.cli import _release
    from pratique.release.policy.explain import explain

    question = _release.question(digest, repository, environment, author)
    with _release.opened(config, None if dry_run else signer_by()) as rooms:
        asked = rooms.gate(policy, policy_digest)
        if dry_run:
            decision = asked.look(question).decision
        else:
            decision = asked.decide_and_record(question, actor=actor or _release.user())
    print(msgspec.json.encode(decision).decode() if as_json else explain(decision))
    if decision.exit_code:
        raise typer.Exit(decision.exit_code)


def revoke(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="Of what is revoked: sha256:….")],
    what: Annotated[Literal["image", "key", "statement"], typer.Option(help="What it is the digest of.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept for good.")],
    config: Config = None,
    actor: _Actor = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Record that something is not to be trusted any more. It cannot be taken back."""
    from pratique.cli import _release
    from pratique.release.policy import acts
    from pratique.release.values import parse_digest

    revoked = parse_digest(digest)
    if dry_run:
        print(f"would revoke the {what} {revoked}", file=sys.stderr)
        return
    revocation = acts.Revocation(what=what, reason=reason)
    with _release.opened(config, signer_by()) as rooms:
        entry = acts.revoke(rooms.ledger, revoked, revocation, actor=actor or _release.user())
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "index": entry.index, "hash": entry.hash}).decode())
        return
    print(f"revoked the {what} {revoked}: entry {entry.index}")
