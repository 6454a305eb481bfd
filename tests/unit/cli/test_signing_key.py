from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pratique.cli.main import main
from pratique.release.signing.keys import load_key, load_public_key

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("password").write_text("open sesame\n")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["signing-key", *arguments])
    return int(ended.value.code or 0)


def test_a_key_that_was_made_is_shown_by_its_fingerprint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "release.key", "--password-file", "password") == 0
    public = load_public_key(Path("release.key.pub"))
    said = f"key {public.fingerprint}\n{public.pem.decode()}"
    assert capsys.readouterr().out == said
    assert load_key(Path("release.key"), password=b"open sesame").public_key_der == public.der
    assert run("show", "release.key.pub") == 0
    assert run("show", "--key", "release.key", "--password-file", "password") == 0
    assert capsys.readouterr().out == said * 2


def test_a_key_without_a_password_has_to_be_wished_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "release.key") == 2
    assert run("create", "release.key", "--password-file", "password", "--no-password") == 2
    assert not Path("release.key").exists()
    assert run("create", "release.key", "--kind", "ed25519", "--no-password", "--json") == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told == {
        "schema_version": 1,
        "key": load_public_key(Path("release.key.pub")).fingerprint,
        "pem": Path("release.key.pub").read_text(),
    }
    load_key(Path("release.key"))


def test_a_key_is_never_overwritten_and_a_rehearsal_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "release.key", "--no-password", "--dry-run") == 0
    assert "would make" in capsys.readouterr().err
    assert not Path("release.key").exists()
    assert run("create", "release.key", "--no-password") == 0
    before = Path("release.key").read_bytes()
    assert run("create", "release.key", "--no-password") == 2
    assert Path("release.key").read_bytes() == before


def test_flags_come_before_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "release.key", "--no-password") == 0
    assert run("create", "other.key", "--no-password") == 0
    capsys.readouterr()
    Path("pratique.toml").write_text('[release.signing]\nkey_file = "release.key"\n')
    for flags, name in (((), "release.key"), (("--key", "other.key"), "other.key")):
        assert run("show", "--config", "pratique.toml", *flags) == 0
        assert load_public_key(Path(f"{name}.pub")).fingerprint in capsys.readouterr().out


def test_without_a_key_there_is_nothing_to_show() -> None:
    assert run("show") == 2
