"""A signing key in AWS KMS: it never leaves the service, which signs digests that are made here.

Only ECC_NIST_P256 keys for SIGN_VERIFY, what cosign takes by `awskms://`. The public key is asked for once, and each
signature is checked against it before it is used: a key that was changed behind its alias must not go unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pratique.core.errors import RefusedError
from pratique.release.errors import UnavailableError
from pratique.release.signing.publickey import PublicKey, parse_public_key

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

__all__ = ["KmsKey", "KmsRefusedError", "connect_kms", "open_kms_key"]

_ATTEMPT_SECONDS: Final = 10
_ATTEMPTS: Final = 3
_REFUSALS: Final = frozenset(
    {
        "AccessDeniedException",
        "DisabledException",
        "InvalidArnException",
        "InvalidGrantTokenException",
        "InvalidKeyUsageException",
        "KMSInvalidStateException",
        "NotFoundException",
        "UnsupportedOperationException",
        "ValidationException",
    }
)
"""What asking again does not mend."""


class KmsRefusedError(RefusedError):
    """The key service said no: no such key, no permission, disabled, or of another kind."""

    code = "kms_refused"


def connect_kms(*, region: str | None = None, endpoint_url: str | None = None) -> KMSClient:
    """Return a client whose calls end in time. Credentials come from where AWS's tools look for them."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_ATTEMPT_SECONDS,
        read_timeout=_ATTEMPT_SECONDS,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
    )
    return boto3.client("kms", region_name=region, endpoint_url=endpoint_url, config=config)


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A `KeyHandle` over a key in AWS KMS. `open_kms_key` makes one."""

    client: KMSClient
    key_id: str
    public_key: PublicKey

    @property
    def public_key_der(self) -> bytes:
        """The SubjectPublicKeyInfo (RFC 5280)."""
        return self.public_key.der

    def sign(self, message: bytes) -> bytes:
        """Return a signature: ECDSA over SHA-256 in DER.

        Raises:
            UnavailableError: the service did not answer in time.
            KmsRefusedError: it said no.
            VerificationError: what it returned is not this key's signature.
        """
        digest = hashlib.sha256(message).digest()
        with _asking("Sign", self.key_id):
            answer = self.client.sign(
                KeyId=self.key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
            )
        signature = answer["Signature"]
        self.public_key.verify_sha256(signature, digest)
        return signature


def open_kms_key(client: KMSClient, key_id: str) -> KmsKey:
    """Return a handle on a key that is named by id, ARN or alias.

    Raises:
        UnavailableError: the service did not answer in time.
        KmsRefusedError: it said no, or the key is of another kind.
    """
    with _asking("GetPublicKey", key_id):
        answer = client.get_public_key(KeyId=key_id)
    if (answer["KeySpec"], answer["KeyUsage"]) != ("ECC_NIST_P256", "SIGN_VERIFY"):
        raise KmsRefusedError(
            f"expected the KMS key '{key_id}' to be ECC_NIST_P256 for SIGN_VERIFY,"
            f" got {answer['KeySpec']} for {answer['KeyUsage']}"
        )
    return KmsKey(client, key_id, parse_public_key(answer["PublicKey"]))


@contextmanager
def _asking(operation: str, key_id: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind = KmsRefusedError if code in _REFUSALS else UnavailableError
        raise kind(f"AWS KMS answered {operation} for the key '{key_id}' with {code}") from error
    except BotoCoreError as error:
        raise UnavailableError(f"AWS KMS could not be asked for {operation}: {error}") from error
