from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pratique.core.errors import CallerError
from pratique.core.settings import SettingsError, load_settings
from pratique.release.errors import VerificationError
from pratique.release.settings import ReleaseSettings
from pratique.release.signing import keyless, kms
from pratique.release.signing.build import open_key, open_signer, open_verifier, read_password
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keyless import KeylessSigner
from pratique.release.signing.keys import create_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.settings import SigningSettings
from pratique.release.statements import make_statement
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

STATEMENT = make_statement(digest_of(b"image"), "urn:x", {})


def test_the_table_names_a_key_its_password_and_whom_to_verify(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" open sesame\n")
    create_key(tmp_path / "release.key", kind="p256", password=b"open sesame")
    (tmp_path / "root.json").write_bytes(ScriptedInstance().trust_root_json())
    file = tmp_path / "pratique.toml"
    file.write_text(f"""
[release.signing]
key_file = "{tmp_path}/release.key"
password_file = "{tmp_path}/password"
public_keys = ["{tmp_path}/release.key.pub"]
trusted_root_file = "{tmp_path}/root.json"
""")
    settings = load_settings(ReleaseSettings, part="release", file=file).signing
    bundle = open_signer(settings, {}).sign(STATEMENT.payload)
    assert open_verifier(settings).verify(bundle).statement == STATEMENT


def test_settings_that_are_not_known_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pratique.toml").write_text("[release.signing]\nkey = 'x'\n")
    with pytest.raises(SettingsError, match="key"):
        load_settings(ReleaseSettings, part="release", file=tmp_path / "pratique.toml")


def test_by_default_only_the_public_instance_is_believed() -> None:
    verifier = open_verifier(SigningSettings())
    assert verifier.keys == ()
    assert verifier.root is not None
    assert verifier.root.logs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected one key"),
        ({"key_file": Path("k"), "kms_key": "alias/k"}, "expected one key"),
        ({"key_file": Path("none")}, "cannot be read"),
        ({"key_file": Path("k"), "password_file": Path("none")}, "cannot be read"),
        (
            {"key_file": Path("k"), "password_variable": "NONE"},
            "NONE, .* is not set",
        ),
        ({"key_file": Path("k"), "password_variable": "A", "password_file": Path("b")}, "named twice"),
    ],
)
def test_a_key_that_cannot_be_had_is_the_callers_mistake(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CallerError, match=message):
        open_key(SigningSettings(**settings), {})


def test_a_password_may_stand_in_the_environment() -> None:
    settings = SigningSettings(password_variable="KEY_PASSWORD")
    assert read_password(settings, {"KEY_PASSWORD": "open sesame"}) == b"open sesame"
    assert read_password(SigningSettings(), {}) is None


def test_a_key_in_kms_is_asked_for_where_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = create_key(tmp_path / "release.key", kind="p256", password=None)
    asked: list[object] = []

    def connect(**where: object) -> str:
        asked.append(where)
        return "client"

    def open_(client: str, name: str) -> object:
        asked.append((client, name))
        return key

    monkeypatch.setattr(kms, "connect_kms", connect)
    monkeypatch.setattr(kms, "open_kms_key", open_)
    settings = SigningSettings(kms_key="alias/release", kms_region="eu-west-1", kms_endpoint_url="http://kms")
    signer = open_signer(settings, {})
    assert isinstance(signer, KeyedSigner)
    assert signer.key is key
    assert asked == [{"region": "eu-west-1", "endpoint_url": "http://kms"}, ("client", "alias/release")]


def test_without_a_key_an_identity_signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keyless, "load_trust_config", lambda file: f"config of {file}")
    monkeypatch.setattr(keyless, "ambient_token", lambda: "ambient")
    (tmp_path / "token").write_text("from a file\n")
    ambient = open_signer(SigningSettings(deadline_seconds=7), {})
    given = open_signer(SigningSettings(identity_token_file=tmp_path / "token", trust_config_file=Path("t")), {})
    assert isinstance(ambient, KeylessSigner)
    assert isinstance(given, KeylessSigner)
    assert (ambient.token, str(ambient.config), ambient.deadline_seconds) == ("ambient", "config of None", 7)
    assert (given.token, str(given.config)) == ("from a file", "config of t")
    assert "from a file" not in repr(given)


def test_a_password_without_a_key_is_a_mistake() -> None:
    with pytest.raises(CallerError, match="no key that it would open"):
        open_signer(SigningSettings(password_variable="KEY_PASSWORD"), {})


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("key")
    with pytest.raises(VerificationError):
        open_verifier(SigningSettings(public_keys=(tmp_path / "key.pub",)))
