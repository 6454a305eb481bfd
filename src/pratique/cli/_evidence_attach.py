"""`pratique evidence attach`: signs statements that lie in files, and lays them beside their image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import (
    Config,
    DryRun,
    IdentityTokenFile,
    Json,
    Key,
    KmsKey,
    PasswordFile,
    Repository,
    TrustConfig,
    signer_by,
    statements_filed,
)
from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.release.statements import Statement

__all__ = ["attach", "read_statement"]


def attach(
    files: Annotated[list[Path], typer.Argument(help="Statements, all about one image.", metavar="FILE…")],
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
    """Sign statements as they are, and lay them beside the image that they are about."""
    from pratique.release.values import Subject

    statements = [(file, read_statement(file)) for file in files]
    images = {one.subjects for _, one in statements}
    if len(images) != 1:
        raise CallerError(f"expected statements about one image, got some about {len(images)}.")
    subject = Subject(repository, statements[0][1].subjects[0])
    if dry_run:
        for file, _ in statements:
            print(f"would sign {file} and lay it beside {repository}@{subject.digest}", file=sys.stderr)
        return
    flags = {"key_file": key, "password_file": password_file, "kms_key": kms_key}
    flags |= {"identity_token_file": identity_token_file, "trust_config_file": trust_config}
    rows = []
    with statements_filed(config, signer_by(**flags)) as lay_beside:
        for file, one in statements:
            attached = lay_beside(subject, one)
            rows.append({"file": str(file), "statement": one.digest, "bundle": attached.bundle})
            if not as_json:
                print(f"{file}: statement {one.digest}, bundle {attached.bundle}", flush=True)
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "image": subject.digest, "attached": rows}).decode())


def read_statement(file: Path) -> Statement:
    """Read a statement from a file.

    Raises:
        CallerError: the file cannot be read.
        EvidenceError: it holds no statement.
    """
    from pratique.release.statements import MAX_STATEMENT_BYTES, parse_statement

    try:
        with file.open("rb") as opened:
            return parse_statement(opened.read(MAX_STATEMENT_BYTES + 1))
    except OSError as error:
        raise CallerError(f"{file} cannot be read: {error.strerror}.") from error
