"""What the commands that sign and verify have in common: their options, and the settings that these make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from pratique.release.registry.interface import Registry
    from pratique.release.settings import ReleaseSettings
    from pratique.release.signing.settings import SigningSettings

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
    "signing_of",
]

Config = Annotated[Path | None, typer.Option(help="TOML file with the tables \\[release.…].")]
ImageDigest = Annotated[str, typer.Argument(metavar="DIGEST", help="Of the artifact: sha256:….")]
Repository = Annotated[str, typer.Option(help="Where the artifact lies: host/path, without a tag.")]
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


def open_registry(settings: ReleaseSettings) -> Registry:
    """Return the registries that the settings describe, with the logins of this machine."""
    from pratique.release.registry.client import HttpRegistry
    from pratique.release.registry.credentials import AuthFiles, default_auth_files

    files = settings.registry.auth_files or default_auth_files(os.environ)
    return HttpRegistry(settings.registry, AuthFiles(files))
