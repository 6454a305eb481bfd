"""What the commands that sign and verify have in common: their options, and the settings that these make."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from pratique.release.signing.settings import SigningSettings

__all__ = [
    "Config",
    "DryRun",
    "IdentityTokenFile",
    "Json",
    "Key",
    "KmsKey",
    "PasswordFile",
    "TrustConfig",
    "signing_settings",
]

Config = Annotated[Path | None, typer.Option(help="TOML file with the table \\[release.signing].")]
Key = Annotated[Path | None, typer.Option(help="The private key that signs.")]
PasswordFile = Annotated[Path | None, typer.Option(help="Holds the key's password.")]
KmsKey = Annotated[str | None, typer.Option(help="A key in AWS KMS that signs: id, ARN or alias.")]
IdentityTokenFile = Annotated[
    Path | None, typer.Option(help="Holds an OpenID Connect token. [what this machine offers, as CI does]")
]
TrustConfig = Annotated[Path | None, typer.Option(help="Of the Sigstore instance that signs. [Sigstore's public one]")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def signing_settings(config: Path | None, **flags: object) -> SigningSettings:
    """Return the settings of signing; a flag that was given comes before file and environment.

    Raises:
        SettingsError: a setting is unknown, or wrong.
    """
    from pratique.core.settings import load_settings
    from pratique.release.settings import ReleaseSettings

    given = {name: value for name, value in flags.items() if value is not None}
    if "key_file" in given:
        given.setdefault("kms_key", "")
    elif "kms_key" in given:
        given.setdefault("key_file", None)
    loaded = load_settings(ReleaseSettings, part="release", file=config, environment=os.environ).signing
    return msgspec.structs.replace(loaded, **given)
