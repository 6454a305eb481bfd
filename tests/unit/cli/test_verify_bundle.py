from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from pratique.cli.main import main
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.statements import make_statement
from pratique.release.values import CertificateIdentity, digest_of

pytestmark = pytest.mark.unit

IMAGE = digest_of(b"image")
ALICE = CertificateIdentity("https://login.example", "alice@example.com")
NAMED = ("--certificate-identity", ALICE.subject, "--certificate-oidc-issuer", ALICE.issuer)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    instance = ScriptedInstance()
    statement = make_statement(IMAGE, "urn:x", {})
    Path("artifact").write_bytes(b"image")
    Path("root.json").write_bytes(instance.trust_root_json())
    at = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    Path("keyless.json").write_bytes(msgspec.json.encode(instance.sign(statement.payload, ALICE, at=at)))
    key = create_key(Path("release.key"), kind="p256", password=None)
    Path("keyed.json").write_bytes(KeyedSigner(key).sign(statement.payload))
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["verify-bundle", *arguments])
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("artifact", ["artifact", IMAGE])
def test_a_bundle_of_the_expected_signer_is_verified(artifact: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--bundle", "keyless.json", *NAMED, "--trusted-root", "root.json", artifact) == 0
    assert capsys.readouterr().out == f"verified: signed by {ALICE}, at the latest 2026-03-01T00:00:00+00:00\n"
    assert run("--bundle", "keyed.json", "--key", "release.key.pub", "--json", artifact) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (told["schema_version"], told["signed_at"]) == (1, None)
    assert told["signer"].startswith("key sha256:")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--bundle", "keyless.json", *NAMED, "artifact"),  # by the public instance's root
        (
            "--bundle",
            "keyless.json",
            *NAMED[:1],
            "mallory@example.com",
            *NAMED[2:],
            "--trusted-root",
            "root.json",
            IMAGE,
        ),
        ("--bundle", "keyless.json", *NAMED, "--trusted-root", "root.json", digest_of(b"other")),
        ("--bundle", "keyless.json", "--key", "release.key.pub", "--trusted-root", "root.json", IMAGE),
        ("--bundle", "keyed.json", *NAMED, "--trusted-root", "root.json", IMAGE),
        ("--bundle", "keyed.json", "--key", "artifact", IMAGE),
        ("--bundle", "keyed.json", "--key", "release.key.pub", "--trusted-root", "artifact", IMAGE),
        ("--bundle", "artifact", "--key", "release.key.pub", IMAGE),
    ],
)
def test_anything_else_is_refused(arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--bundle", "keyed.json", IMAGE),
        ("--bundle", "keyed.json", NAMED[0], NAMED[1], IMAGE),
        ("--bundle", "keyed.json", "--key", "release.key.pub", *NAMED, IMAGE),
        ("--bundle", "none.json", "--key", "release.key.pub", IMAGE),
        ("--bundle", "keyed.json", "--key", "none.pub", IMAGE),
        ("--bundle", "keyed.json", "--key", "release.key.pub", "none"),
    ],
)
def test_a_question_that_is_not_whole_is_the_callers_mistake(arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2
