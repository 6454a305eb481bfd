"""The table [release.signing]: who signs here, and whose signatures are verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["SigningSettings"]


class SigningSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signing and verifying. A key signs where one is named, else an identity through Sigstore."""

    key_file: Path | None = None
    """The private key that signs, as `pratique signing-key create` makes it."""
    password_file: Path | None = None
    """A file with the key's password; white space around it is not part of it."""
    password_variable: str = ""
    """An environment variable with the key's password, instead of a file."""
    kms_key: str = ""
    """A key in AWS KMS that signs: id, ARN or alias of an ECC_NIST_P256 key for SIGN_VERIFY."""
    kms_region: str | None = None
    """AWS's region. Unset: as AWS's tools find it."""
    kms_endpoint_url: str | None = None
    """Where the key service answers, if it is not AWS's own."""
    identity_token_file: Path | None = None
    """A file with an OIDC identity token. Unset: the one that the machine offers, as continuous integration does."""
    trust_config_file: Path | None = None
    """A client trust config in JSON: the Sigstore instance where an identity signs. Unset: the public one."""
    deadline_seconds: Annotated[float, Meta(gt=0, le=600)] = 60.0
    """Of one keyless signature: certificate, time stamp and log entry together."""
    public_keys: tuple[Path, ...] = ()
    """Public keys in PEM whose signatures are verified. Whose word counts for what, the policy says."""
    trusted_root_file: Path | None = None
    """`trusted_root.json` of the instance whose certificates and logs are believed. Unset: Sigstore's public one."""
