"""A key in MiniStack's KMS signs a statement that our verifier takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.kms import KmsRefusedError, connect_kms, open_kms_key
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import KeyIdentity, digest_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kms")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "COVERAGE_PROCESS_CONFIG": "",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "kms",
        "DOCKER_HOST": "unix:///nowhere",
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder),
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "ministack"], env=environment, stdout=log, stderr=log)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def wait_until_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=2):  # noqa: S310 - our own server
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def test_a_statement_is_signed_by_a_key_that_nobody_has(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client = connect_kms(region="eu-west-1", endpoint_url=endpoint)
    made = client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    client.create_alias(AliasName="alias/release", TargetKeyId=made)
    key = open_kms_key(client, "alias/release")
    public = parse_public_key(key.public_key_der)
    statement = make_statement(digest_of(b"image"), "urn:x", {})
    proved = BundleVerifier((public,)).verify(KeyedSigner(key).sign(statement.payload))
    assert (proved.statement, proved.signer) == (statement, KeyIdentity(public.fingerprint))
    rsa = client.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    for refused in (rsa, "alias/none"):
        with pytest.raises(KmsRefusedError):
            open_kms_key(client, refused)
