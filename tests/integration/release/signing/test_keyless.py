"""sigstore-python signs at an instance of ours, over HTTP: certificate, log and time stamp."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError, UnavailableError
from pratique.release.signing.keyless import IdentityRefusedError, KeylessSigner, ambient_token, load_trust_config
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.scripted_server import ScriptedServices
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import CertificateIdentity, digest_of

pytestmark = pytest.mark.integration

STATEMENT = make_statement(digest_of(b"image"), "urn:x", {"said": True})


@pytest.fixture(params=[1, 2], ids=["rekor1", "rekor2"])
def services(request: pytest.FixtureRequest) -> Iterator[ScriptedServices]:
    with ScriptedServices(ScriptedInstance(rekor=request.param)).running() as running:
        yield running


def token(**claims: Any) -> str:
    now = int(time.time())
    usual = {
        "iss": "https://login.example",
        "sub": "alice@example.com",
        "aud": "sigstore",
        "iat": now,
        "exp": now + 300,
    }
    parts = ({"alg": "none", "typ": "JWT"}, usual | claims)
    return (
        ".".join(base64.urlsafe_b64encode(msgspec.json.encode(part)).decode().rstrip("=") for part in parts) + ".c2ln"
    )


def signer(services: ScriptedServices, folder: Path, **more: Any) -> KeylessSigner:
    file = folder / "trust_config.json"
    file.write_bytes(msgspec.json.encode(services.trust_config()))
    return KeylessSigner(more.pop("token", token()), load_trust_config(file), **more)


def test_what_an_identity_signs_is_verified_offline(services: ScriptedServices, tmp_path: Path) -> None:
    before = time.time()
    bundle = signer(services, tmp_path).sign(STATEMENT.payload)
    proved = BundleVerifier(root=parse_trust_root(services.instance.trust_root_json())).verify(bundle)
    assert proved.statement == STATEMENT
    assert proved.signer == CertificateIdentity("https://login.example", "alice@example.com")
    assert proved.signed_at is not None
    assert before - 1 <= proved.signed_at.timestamp() <= time.time()


@pytest.mark.parametrize("bad", ["no token", token(exp=1), token(aud="other"), token(nbf=2**40)])
def test_a_token_that_is_no_good_is_refused_before_anybody_is_asked(
    services: ScriptedServices, tmp_path: Path, bad: str
) -> None:
    services.answers.clear()
    with pytest.raises(IdentityRefusedError, match="the identity token is not valid"):
        signer(services, tmp_path, token=bad).sign(STATEMENT.payload)


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, IdentityRefusedError), (403, IdentityRefusedError), (500, UnavailableError), (200, UnavailableError)],
)
def test_an_authority_that_says_no_is_told_from_one_that_fails(
    services: ScriptedServices, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    services.answers["/api/v2/signingCert"] = lambda _body, _token: (status, b"{}")
    with pytest.raises(error):
        signer(services, tmp_path).sign(STATEMENT.payload)


@pytest.mark.parametrize("answer", [(500, b"{}"), (400, b"no json"), (201, b"[]"), (201, b"{")])
def test_a_log_that_fails_leaves_nothing_signed(
    services: ScriptedServices, tmp_path: Path, answer: tuple[int, bytes]
) -> None:
    for path in ("/api/v1/log/entries", "/api/v2/log/entries"):
        services.answers[path] = lambda _body, _token: answer
    with pytest.raises(UnavailableError):
        signer(services, tmp_path).sign(STATEMENT.payload)


def test_a_stamp_that_is_missing_makes_no_bundle(tmp_path: Path) -> None:
    with ScriptedServices(ScriptedInstance(rekor=2)).running() as services:
        services.answers["/api/v1/timestamp"] = lambda _body, _token: (503, b"")
        with pytest.raises(UnavailableError, match=r"does not make a bundle that verifies|could not be used"):
            signer(services, tmp_path).sign(STATEMENT.payload)


def test_services_that_hang_do_not_hold_up_a_release(services: ScriptedServices, tmp_path: Path) -> None:
    def hang(_body: bytes, _token: str) -> tuple[int, bytes]:
        time.sleep(1)
        return 500, b""

    services.answers["/api/v2/signingCert"] = hang
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.3 s"):
        signer(services, tmp_path, deadline_seconds=0.3).sign(STATEMENT.payload)


def test_services_that_are_not_there_are_unavailable(tmp_path: Path) -> None:
    with ScriptedServices(ScriptedInstance()).running() as services:
        gone = signer(services, tmp_path)
    with pytest.raises(UnavailableError):
        gone.sign(STATEMENT.payload)


def test_nothing_but_a_statement_is_signed(services: ScriptedServices, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError):
        signer(services, tmp_path).sign(b"{}")


def test_a_trust_config_that_is_none_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="cannot be read"):
        load_trust_config(tmp_path / "none.json")
    for content in ("", "{}", '{"mediaType":"x"}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(CallerError, match="no client trust config"):
            load_trust_config(tmp_path / "bad.json")


def test_a_machine_without_an_identity_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "BUILDKITE", "CIRCLECI", "SIGSTORE_ID_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(IdentityRefusedError, match="offers none"):
        ambient_token()


def test_an_ambient_identity_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for name in ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(IdentityRefusedError, match="cannot be had"):
        ambient_token()


def test_an_ambient_identity_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token())
    assert ambient_token().count(".") == 2


def test_answers_of_another_instance_than_the_trusted_one_make_no_bundle(
    services: ScriptedServices, tmp_path: Path
) -> None:
    config = services.trust_config()
    own, other = config["trustedRoot"], ScriptedInstance(rekor=services.instance.log.version).trusted_root()
    config["trustedRoot"] = other | {"ctlogs": own["ctlogs"]}  # all but what sigstore-python looks at itself
    file = tmp_path / "trust_config.json"
    file.write_bytes(msgspec.json.encode(config))
    with pytest.raises(UnavailableError, match="does not make a bundle that verifies"):
        KeylessSigner(token(), load_trust_config(file)).sign(STATEMENT.payload)


def test_a_public_instance_that_cannot_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    from sigstore.errors import TUFError
    from sigstore.models import ClientTrustConfig

    def fail() -> None:
        raise TUFError("no route")

    monkeypatch.setattr(ClientTrustConfig, "production", fail)
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        load_trust_config(None)
