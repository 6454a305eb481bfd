"""`pratique signing-key create | show`: parse, call, render."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from pratique.cli._signing import Config, DryRun, Json, Key, KmsKey, PasswordFile, release_settings, signing_of
from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.release.signing.publickey import PublicKey

__all__ = ["app"]

app = typer.Typer(help="Make a key that signs releases; show its public half.", no_args_is_help=True)


@app.command("create")
def create(
    file: Annotated[Path, typer.Argument(help="The new private key; its public half is written to FILE.pub.")],
    kind: Annotated[Literal["p256", "ed25519"], typer.Option(help="cosign makes and takes p256.")] = "p256",
    password_file: PasswordFile = None,
    no_password: Annotated[bool, typer.Option("--no-password", help="Leave the key unencrypted.")] = False,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Make a key in two new files. Files that are there are never overwritten."""
    from pratique.release.signing.build import read_password
    from pratique.release.signing.keys import create_key
    from pratique.release.signing.publickey import parse_public_key

    password = read_password(signing_of(release_settings(config), password_file=password_file), os.environ)
    if bool(password) == no_password:
        raise CallerError(
            "expected a password for the key, or the word that it is to have none",
            hint="Say --password-file, or --no-password.",
        )
    if dry_run:
        print(f"would make a key of kind {kind} in {file} and {file}.pub", file=sys.stderr)
        return
    _show(parse_public_key(create_key(file, kind=kind, password=password).public_key_der), as_json=as_json)


@app.command("show")
def show(
    public_key: Annotated[Path | None, typer.Argument(help="A public key. [of the key that signs]")] = None,
    key: Key = None,
    password_file: PasswordFile = None,
    kms_key: KmsKey = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a public key: its fingerprint, which policies name, and the key itself."""
    from pratique.release.signing.build import open_key
    from pratique.release.signing.keys import load_public_key
    from pratique.release.signing.publickey import parse_public_key

    if public_key is not None:
        _show(load_public_key(public_key), as_json=as_json)
        return
    settings = signing_of(release_settings(config), key_file=key, password_file=password_file, kms_key=kms_key)
    _show(parse_public_key(open_key(settings, os.environ).public_key_der), as_json=as_json)


def _show(key: PublicKey, *, as_json: bool) -> None:
    pem = key.pem.decode()
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "key": key.fingerprint, "pem": pem}).decode())
        return
    print(f"key {key.fingerprint}\n{pem}", end="")
