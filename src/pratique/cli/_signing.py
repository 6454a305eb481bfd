"""What the commands that sign and verify have in common: their options, and the settings that these make."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from pratique.release.registry.interface import Registry
    from pratique.release.settings import ReleaseSettings
    from pratique.release.signing.attach import Attached
    from pratique.release.signing.interface import StatementSigner
    from pratique.release.signing.settings import SigningSettings
    from pratique.release.statements import Statement
    from pratique.release.values import Subject

__all__ = [
    "Config",
    "DryRun",
    "IdentityTokenFile",
    "ImageDigest",
    "Json",
    "Key",
    "KmsKey",
    "PasswordFile",
    "Repository",
    "TrustConfig",
    "open_registry",
    "release_settings",
    "signer_by",
    "signing_of",
    "statements_filed",
]

Config = Annotated[Path | None, typer.Option(envvar="PRATIQUE_CONFIG", help="TOML file with the tables \\[release.…].")]
ImageDigest = Annotated[str, typer.Argument(metavar="DIGEST", help="Of the artifact: sha256:….")]
Repository = Annotated[
    str, typer.Option(envvar="PRATIQUE_REPOSITORY", help="Where the artifact lies: host/path, without a tag.")
]
Key = Annotated[Path | None, typer.Option(help="The private key that signs.")]
PasswordFile = Annotated[Path | None, typer.Option(help="Holds the key's password.")]
KmsKey = Annotated[str | None, typer.Option(help="A key in AWS KMS that signs: id, ARN or alias.")]
IdentityTokenFile = Annotated[
    Path | None, typer.Option(help="Holds an OpenID Connect token. [what this machine offers, as CI does]")
]
TrustConfig = Annotated[Path | None, typer.Option(help="Of the Sigstore instance that signs. [Sigstore's public one]")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def release_settings(config: Path | None) -> ReleaseSettings:
    """Return the settings of all rooms.

    Raises:
        SettingsError: a setting is unknown, or wrong.
    """
    from pratique.core.settings import load_settings
    from pratique.release.settings import ReleaseSettings

    return load_settings(ReleaseSettings, part="release", file=config, environment=os.environ)


def signing_of(settings: ReleaseSettings, **flags: object) -> SigningSettings:
    """Return the settings of signing, where a flag that was given comes first; it names the one key that signs."""
    given = {name: value for name, value in flags.items() if value is not None}
    if "key_file" in given or "kms_key" in given:
        given = {"key_file": None, "kms_key": "", **given}
    return msgspec.structs.replace(settings.signing, **given)


def signer_by(**flags: object) -> Callable[[ReleaseSettings], StatementSigner]:
    """Return what opens who signs, by the settings and the flags that were given."""

    def sign(settings: ReleaseSettings) -> StatementSigner:
        from pratique.release.signing.build import open_signer

        return open_signer(signing_of(settings, **flags), os.environ)

    return sign


@contextmanager
def statements_filed(
    config: Path | None, sign: Callable[[ReleaseSettings], StatementSigner]
) -> Iterator[Callable[[Subject, Statement], Attached]]:
    """Open what signs a statement and lays it beside its artifact. Where a ledger is named, it is recorded there.

    Raises:
        PratiqueError: as keys, the registry and the ledger do. The ledger is opened first: what could not be recorded
            is not signed.
    """
    from pratique.release.ledger.build import open_ledger
    from pratique.release.ledger.recording import record_statement
    from pratique.release.signing.attach import attach
    from pratique.release.signing.build import open_verifier

    settings = release_settings(config)
    signer, registry = sign(settings), open_registry(settings)

    def lay(subject: Subject, bundle: bytes) -> Attached:
        return attach(registry, subject, bundle, at=datetime.now(tz=UTC))

    if settings.ledger.backend == "sqlite" and settings.ledger.file is None:
        print("no ledger is named in [release.ledger]: nothing is recorded", file=sys.stderr)
        yield lambda subject, statement: lay(subject, signer.sign(statement.payload))
        return
    verifier = open_verifier(settings.signing)
    with open_ledger(settings.ledger, verifier, signer=signer) as ledger:

        def record(subject: Subject, statement: Statement) -> Attached:
            bundle = signer.sign(statement.payload)
            attestation = verifier.verify(bundle)
            attached = lay(subject, bundle)
            record_statement(ledger, subject.digest, attestation)
            return attached

        yield record


def open_registry(settings: ReleaseSettings) -> Registry:
    """Return the registries that the settings describe, with the logins of this machine."""
    from pratique.release.registry.client import HttpRegistry
    from pratique.release.registry.credentials import AuthFiles, default_auth_files

    files = settings.registry.auth_files or default_auth_files(os.environ)
    return HttpRegistry(settings.registry, AuthFiles(files))
