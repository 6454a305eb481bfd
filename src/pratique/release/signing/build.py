"""The signer and the verifier that the settings name. Reads keys and trust roots; asks services only where told to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pratique.core.errors import CallerError
from pratique.release.signing.interface import KeyHandle, StatementSigner
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import load_key, load_public_key
from pratique.release.signing.settings import SigningSettings
from pratique.release.signing.trust import load_trust_root
from pratique.release.signing.verifier import BundleVerifier

__all__ = ["open_key", "open_signer", "open_verifier", "read_password"]

_MAX_SECRET_BYTES: Final = 64 * 1024


def open_signer(settings: SigningSettings, environment: Mapping[str, str]) -> StatementSigner:
    """Return who signs: a key where one is named, else an identity.

    Args:
        settings: name the key, or the identity's token and instance.
        environment: where a password may be; usually `os.environ`.

    Raises:
        CallerError: what is named does not fit together, or cannot be read.
        RefusedError, UnavailableError: the key service or the instance said no, or did not answer.
    """
    if settings.key_file is not None or settings.kms_key:
        return KeyedSigner(open_key(settings, environment))
    if settings.password_file is not None or settings.password_variable:
        raise CallerError("a password is named, and no key that it would open", hint="Name the key too.")
    from pratique.release.signing.keyless import KeylessSigner, ambient_token, load_trust_config

    file = settings.identity_token_file
    token = _secret(file, "the identity token").decode(errors="replace") if file else ambient_token()
    return KeylessSigner(token, load_trust_config(settings.trust_config_file), settings.deadline_seconds)


def open_key(settings: SigningSettings, environment: Mapping[str, str]) -> KeyHandle:
    """Return the key that signs.

    Raises:
        CallerError: not one is named, or it cannot be read.
        RefusedError, UnavailableError: the key service said no, or did not answer.
    """
    if (settings.key_file is None) == (not settings.kms_key):
        raise CallerError(
            "expected one key, in a file or in AWS KMS, got two or none",
            hint="Name it: --key, --kms-key, or in [release.signing]. `pratique signing-key create` makes one.",
        )
    if settings.key_file is not None:
        return load_key(settings.key_file, password=read_password(settings, environment))
    from pratique.release.signing.kms import connect_kms, open_kms_key

    return open_kms_key(
        connect_kms(region=settings.kms_region, endpoint_url=settings.kms_endpoint_url), settings.kms_key
    )


def open_verifier(settings: SigningSettings) -> BundleVerifier:
    """Return the verifier of the accepted keys and the trust root.

    Raises:
        CallerError: a file cannot be read.
        VerificationError: it holds no key, or no trust root.
    """
    keys = tuple(load_public_key(file) for file in settings.public_keys)
    return BundleVerifier(keys, load_trust_root(settings.trusted_root_file))


def read_password(settings: SigningSettings, environment: Mapping[str, str]) -> bytes | None:
    """Return the key's password; None where none is named.

    Raises:
        CallerError: it is not where it is said to be, or is named twice.
    """
    file, variable = settings.password_file, settings.password_variable
    if file is not None and variable:
        raise CallerError("the key's password is named twice: by a file and by an environment variable")
    if file is not None:
        return _secret(file, "the key's password")
    if not variable:
        return None
    if variable not in environment:
        raise CallerError(f"the environment variable {variable}, which should have the key's password, is not set")
    return environment[variable].encode()


def _secret(file: Path, what: str) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_SECRET_BYTES).strip()
    except OSError as error:
        raise CallerError(f"{what} in {file} cannot be read: {error.strerror}") from error
