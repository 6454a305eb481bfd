"""The rooms of the release gate, opened by settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.release.policy.evidence_set import POLICY_TEXT, SUBJECT
from tests.unit.release.policy.shell_parts import ledger

from pratique.cli._release import opened, rooms_of, user
from pratique.cli._signing import release_settings, signer_by
from pratique.core.errors import CallerError
from pratique.core.settings import SettingsError
from pratique.release.errors import UnavailableError
from pratique.release.policy.gate import PolicyMismatchError
from pratique.release.signing.keys import create_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.values import Subject, digest_of

pytestmark = pytest.mark.unit


@pytest.fixture
def config(tmp_path: Path) -> Path:
    create_key(tmp_path / "ben.key", kind="p256", password=None)
    (tmp_path / "root.json").write_bytes(ScriptedInstance().trust_root_json())
    (tmp_path / "promotion.toml").write_text(POLICY_TEXT, encoding="utf-8")
    file = tmp_path / "pratique.toml"
    file.write_text(
        f"""
        [release.signing]
        public_keys = ["{tmp_path}/ben.key.pub"]
        trusted_root_file = "{tmp_path}/root.json"
        [release.policy]
        file = "{tmp_path}/promotion.toml"
        digest = "{digest_of(POLICY_TEXT.encode())}"
        [release.registry]
        attempts = 1
        connect_seconds = 0.2
        deadline_seconds = 1
        """,
        encoding="utf-8",
    )
    return file


def test_the_rooms_are_those_of_the_settings(config: Path) -> None:
    rooms = rooms_of(release_settings(config), ledger())
    assert rooms.gate(None, None).policy.digest == digest_of(POLICY_TEXT.encode())
    assert rooms.gate(None, digest_of(POLICY_TEXT.encode())).policy.digest == digest_of(POLICY_TEXT.encode())
    with pytest.raises(CallerError, match="pin the policy"):
        rooms.gate(None, digest_of(b"reviewed"))


def test_a_policy_of_another_digest_than_is_asked_for_is_refused(config: Path) -> None:
    pin = f'digest = "{digest_of(POLICY_TEXT.encode())}"'
    config.write_text(config.read_text(encoding="utf-8").replace(pin, ""), encoding="utf-8")
    with pytest.raises(PolicyMismatchError):
        rooms_of(release_settings(config), ledger()).gate(None, digest_of(b"reviewed"))


def test_a_key_that_is_not_there_is_named(config: Path) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace("ben.key.pub", "none.pub"), encoding="utf-8")
    with pytest.raises(CallerError, match=r"none\.pub"):
        rooms_of(release_settings(config), ledger())


def test_an_unknown_setting_is_refused(config: Path) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace("digest =", "digset ="), encoding="utf-8")
    with pytest.raises(SettingsError):
        release_settings(config)


def test_a_registry_that_does_not_answer_could_not_be_asked(config: Path) -> None:
    rooms = rooms_of(release_settings(config), ledger())
    with pytest.raises(UnavailableError):
        rooms.load_dossier(Subject("127.0.0.1:1/team/chat", SUBJECT.digest))


def test_where_no_settings_name_a_ledger_nobody_is_asked_for_a_key(config: Path) -> None:
    with pytest.raises(CallerError, match="no settings say where the ledger is") as caught, opened(None, signer_by()):
        pass
    assert "PRATIQUE_CONFIG" in str(caught.value.hint)
    with pytest.raises(CallerError) as caught, opened(config, signer_by()):
        pass
    assert str(config) in str(caught.value.hint)


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError(1000)

    assert user()
    monkeypatch.setattr("getpass.getuser", nameless)
    assert user() == "unknown"
