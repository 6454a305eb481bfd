"""Two instances of Sigstore, one by each generation of its log, and keys."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pratique.release.signing.keys import FileKey, create_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import Statement, make_statement
from pratique.release.values import CertificateIdentity, digest_of

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ALICE = CertificateIdentity("https://login.example", "alice@example.com")


@pytest.fixture(scope="session", params=[1, 2], ids=["rekor1", "rekor2"])
def instance(request: pytest.FixtureRequest) -> ScriptedInstance:
    made = ScriptedInstance(rekor=request.param)
    for number in range(5):  # so that inclusion proofs have something to say
        made.log.add(b"%d" % number, kind="dsse", version="0.0.1", at=AT)
    return made


@pytest.fixture(scope="session")
def verifier(instance: ScriptedInstance) -> BundleVerifier:
    return BundleVerifier(root=parse_trust_root(instance.trust_root_json()))


@pytest.fixture(scope="session")
def statement() -> Statement:
    return make_statement(digest_of(b"image"), "urn:x", {"said": True})


@pytest.fixture(scope="session")
def _signed(instance: ScriptedInstance, statement: Statement) -> dict[str, Any]:
    return instance.sign(statement.payload, ALICE, at=AT)


@pytest.fixture
def signed(_signed: dict[str, Any]) -> dict[str, Any]:
    """A bundle that verifies, to be changed."""
    return copy.deepcopy(_signed)


@pytest.fixture(scope="session")
def encode() -> Callable[[object], bytes]:
    return msgspec.json.encode


@pytest.fixture(scope="session", params=["p256", "ed25519"])
def file_key(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FileKey:
    return create_key(tmp_path_factory.mktemp("key") / "signing.key", kind=request.param, password=None)
