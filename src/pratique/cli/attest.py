"""`pratique sign` and `pratique attest`: parse, call, render."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import (
    Config,
    DryRun,
    IdentityTokenFile,
    ImageDigest,
    Json,
    Key,
    KmsKey,
    PasswordFile,
    Repository,
    TrustConfig,
    signer_by,
    statements_filed,
)

if TYPE_CHECKING:
    from pratique.release.signing.attach import Attached
    from pratique.release.statements import Statement

__all__ = ["attest", "sign"]


def sign(
    digest: ImageDigest,
    repository: Repository,
    key: Key = None,
    password_file: PasswordFile = None,
    kms_key: KmsKey = None,
    identity_token_file: IdentityTokenFile = None,
    trust_config: TrustConfig = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Sign an image, and lay the signature beside it. cosign verifies it."""
    from pratique.release.predicates import RELEASE
    from pratique.release.statements import make_statement
    from pratique.release.values import parse_digest

    flags = {"key_file": key, "password_file": password_file, "kms_key": kms_key}
    flags |= {"identity_token_file": identity_token_file, "trust_config_file": trust_config}
    statement = make_statement(parse_digest(digest), RELEASE, {})
    _publish(statement, repository, config, flags, as_json=as_json, dry_run=dry_run)


def attest(
    digest: ImageDigest,
    repository: Repository,
    kind: Annotated[str, typer.Option("--type", help="What is said: sbom, provenance, vex, …, or a predicate's URI.")],
    predicate: Annotated[Path, typer.Option(help="A JSON object: what is said.")],
    key: Key = None,
    password_file: PasswordFile = None,
    kms_key: KmsKey = None,
    identity_token_file: IdentityTokenFile = None,
    trust_config: TrustConfig = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Sign a statement about an image, and lay it beside the image."""
    from pratique.release.signing.predicate import load_predicate, type_named
    from pratique.release.statements import make_statement
    from pratique.release.values import parse_digest

    flags = {"key_file": key, "password_file": password_file, "kms_key": kms_key}
    flags |= {"identity_token_file": identity_token_file, "trust_config_file": trust_config}
    subject, type_ = parse_digest(digest), type_named(kind)
    statement = make_statement(subject, type_, load_predicate(predicate, type_))
    _publish(statement, repository, config, flags, as_json=as_json, dry_run=dry_run)


def _publish(
    statement: Statement,
    repository: str,
    config: Path | None,
    flags: Mapping[str, object],
    *,
    as_json: bool,
    dry_run: bool,
) -> None:
    from pratique.release.values import Subject

    if dry_run:
        print(f"would sign this and lay it beside {repository}@{statement.subjects[0]}:", file=sys.stderr)
        print(statement.payload.decode())
        return
    with statements_filed(config, signer_by(**flags)) as file:
        attached = file(Subject(repository, statement.subjects[0]), statement)
    _print(attached, statement, as_json=as_json)


def _print(attached: Attached, statement: Statement, *, as_json: bool) -> None:
    if as_json:
        told = {
            "schema_version": 1,
            "manifest": attached.manifest,
            "bundle": attached.bundle,
            "statement": statement.digest,
            "predicate_type": statement.predicate_type,
        }
        print(msgspec.json.encode(told).decode())
        return
    print(f"attached {attached.manifest}\nbundle {attached.bundle}\nstatement {statement.digest}")
