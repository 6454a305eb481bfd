from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from pratique.core.errors import PratiqueError
from pratique.release.errors import UnavailableError, VerificationError
from pratique.release.signing.kms import KmsKey, KmsRefusedError, connect_kms, open_kms_key
from pratique.release.signing.publickey import public_key_of

pytestmark = pytest.mark.unit

PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = public_key_of(PRIVATE.public_key())
NAME = "alias/release"


@pytest.fixture(scope="module")
def client() -> Any:
    return boto3.client("kms", region_name="eu-west-1", aws_access_key_id="k", aws_secret_access_key="s")


@pytest.fixture
def stub(client: Any) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def public(**changes: Any) -> dict[str, Any]:
    return {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY", "PublicKey": PUBLIC.der} | changes


def test_the_service_signs_the_digest_and_never_sees_the_message(client: Any, stub: Stubber) -> None:
    digest = hashlib.sha256(b"message").digest()
    signature = PRIVATE.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    stub.add_response("get_public_key", public(), {"KeyId": NAME})
    asked = {"KeyId": NAME, "Message": digest, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}
    stub.add_response("sign", {"Signature": signature}, asked)
    key = open_kms_key(client, NAME)
    assert key.public_key_der == PUBLIC.der
    PUBLIC.verify(key.sign(b"message"), b"message")


def test_a_signature_by_another_key_is_not_used(client: Any, stub: Stubber) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    stub.add_response("sign", {"Signature": stranger.sign(b"message", ec.ECDSA(hashes.SHA256()))})
    with pytest.raises(VerificationError, match="not that of key"):
        KmsKey(client, NAME, PUBLIC).sign(b"message")


@pytest.mark.parametrize("change", [{"KeySpec": "RSA_2048"}, {"KeyUsage": "KEY_AGREEMENT"}])
def test_a_key_of_another_kind_is_refused(client: Any, stub: Stubber, change: dict[str, str]) -> None:
    stub.add_response("get_public_key", public(**change))
    with pytest.raises(KmsRefusedError, match="ECC_NIST_P256 for SIGN_VERIFY"):
        open_kms_key(client, NAME)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NotFoundException", KmsRefusedError),
        ("AccessDeniedException", KmsRefusedError),
        ("DisabledException", KmsRefusedError),
        ("ThrottlingException", UnavailableError),
        ("KMSInternalException", UnavailableError),
    ],
)
def test_no_is_told_from_no_answer(client: Any, stub: Stubber, code: str, kind: type[PratiqueError]) -> None:
    stub.add_client_error("sign", service_error_code=code)
    with pytest.raises(kind, match=f"with {code}"):
        KmsKey(client, NAME, PUBLIC).sign(b"message")


def test_a_service_that_cannot_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setattr("pratique.release.signing.kms._ATTEMPTS", 1)
    nowhere = connect_kms(region="eu-west-1", endpoint_url="http://127.0.0.1:1")
    with pytest.raises(UnavailableError, match="could not be asked for GetPublicKey"):
        open_kms_key(nowhere, NAME)
