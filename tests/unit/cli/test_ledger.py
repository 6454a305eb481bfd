"""`pratique ledger`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from pratique.cli.main import app
from pratique.release.ledger.build import open_ledger
from pratique.release.ledger.settings import LedgerSettings
from pratique.release.signing.build import open_verifier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key
from pratique.release.signing.settings import SigningSettings
from pratique.release.values import digest_of

if TYPE_CHECKING:
    from typer.testing import Result

pytestmark = pytest.mark.unit

IMAGE = digest_of(b"image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A key pair, and a ledger of three entries."""
    key = create_key(tmp_path / "head.key", kind="ed25519", password=None)
    verifier = open_verifier(SigningSettings(public_keys=(tmp_path / "head.key.pub",)))
    with open_ledger(LedgerSettings(file=tmp_path / "ledger.db"), verifier, signer=KeyedSigner(key)) as ledger:
        ledger.append("build", IMAGE, {"tag": "v1"}, actor="ci")
        ledger.append("promotion", IMAGE, {}, environment="production", actor="ada")
        ledger.append("alert", digest_of(b"other"), {}, actor="feed")
    return tmp_path


def run(folder: Path, command: str, *words: str) -> Result:
    named = ("--file", str(folder / "ledger.db"), "--key", str(folder / "head.key.pub"))
    return CliRunner().invoke(app, ["ledger", command, *named, *words])


def test_a_ledger_that_holds_says_so(folder: Path) -> None:
    found = run(folder, "verify")
    assert (found.exit_code, found.stdout.startswith("'releases' holds: 3 entries, head sha256:")) == (0, True)
    told = json.loads(run(folder, "verify", "--json").stdout)
    assert (told["schema_version"], told["size"], told["witnessed"]) == (1, 3, False)


def test_a_head_that_was_kept_is_a_witness(folder: Path) -> None:
    head = run(folder, "show", "--head", "--json")
    witness = folder / "witness.json"
    witness.write_text(head.stdout)
    told = run(folder, "verify", "--witness", str(witness), "--json")
    assert (told.exit_code, json.loads(told.stdout)["witnessed"]) == (0, True)
    kept = json.loads(head.stdout)
    witness.write_text(json.dumps({**kept, "size": 4}))
    assert run(folder, "verify", "--witness", str(witness)).exit_code == 1
    assert run(folder, "verify", "--witness", str(folder / "none.json")).exit_code == 2
    assert run(folder, "show", "--head").stdout == f"'releases' has 3 entries, head {kept['hash']}\n"


def test_the_newest_entries_are_shown_first(folder: Path) -> None:
    lines = run(folder, "show", "--limit", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert lines[1].endswith(f"promotion {IMAGE} in production by ada")
    told = json.loads(run(folder, "show", "--kind", "build", "--subject", IMAGE, "--json").stdout)
    assert [(one["index"], one["body"]) for one in told["entries"]] == [(0, {"tag": "v1"})]
    assert run(folder, "show", "--environment", "staging").stdout == ""


def test_an_export_has_every_entry_and_the_head(folder: Path) -> None:
    lines = [json.loads(line) for line in run(folder, "export").stdout.splitlines()]
    assert [line.get("kind") for line in lines] == ["build", "promotion", "alert", None]
    assert (lines[-1]["size"], lines[-1]["hash"]) == (3, lines[-2]["hash"])


@pytest.mark.parametrize(("words", "code"), [(["--kind", "party"], 2), (["--subject", "v1"], 2), (["--limit", "0"], 2)])
def test_wrong_words_are_wrong_usage(folder: Path, words: list[str], code: int) -> None:
    assert run(folder, "show", *words).exit_code == code


def test_a_ledger_under_another_name_or_key_is_refused(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "verify", "--name", "others").exit_code == 1
    create_key(folder / "stranger.key", kind="ed25519", password=None)
    words = ["ledger", "verify", "--file", str(folder / "ledger.db"), "--key", str(folder / "stranger.key.pub")]
    assert CliRunner().invoke(app, words).exit_code == 1
    assert CliRunner().invoke(app, words[:-2]).exit_code == 2
    assert CliRunner().invoke(app, ["ledger", "verify", "--key", str(folder / "head.key.pub")]).exit_code == 2
