"""`pratique audit`, `inventory`, `triage` and `feed`, on a registry in memory with a real key and a real ledger."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.unit.release.signing.watched_registry import REPOSITORY, WatchedRegistry
from tests.unit.release.triage.triage_parts import NOW, purl, record, sbom

from pratique.cli import _signing, inventory
from pratique.cli.main import main
from pratique.release.advisories.importing import ImportRequest, import_advisories
from pratique.release.ledger.build import open_ledger
from pratique.release.ledger.interface import Ledger
from pratique.release.ledger.settings import LedgerSettings
from pratique.release.promotion.history import Released
from pratique.release.signing.build import open_verifier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey, create_key
from pratique.release.signing.settings import SigningSettings
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

SETTINGS = """
[release.signing]
key_file = "release.key"
public_keys = ["release.key.pub"]
[release.ledger]
file = "ledger.db"
[release.triage]
index = "triage.db"
"""
CONFIG = ("--config", "pratique.toml")


def record_release(key: FileKey, digest: Digest) -> None:
    verifier = open_verifier(SigningSettings(public_keys=(Path("release.key.pub"),)))
    with open_ledger(LedgerSettings(file=Path("ledger.db")), verifier, signer=KeyedSigner(key)) as ledger:
        written: Ledger = ledger
        body = Released(rollout=digest_of(b"r"), target="local", repository=REPOSITORY, baseline=None)
        written.append("promotion", digest, body, environment="production", actor="ops")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """An image in production with a signed bill of materials, and advisories."""
    monkeypatch.chdir(tmp_path)
    key = create_key(Path("release.key"), kind="p256", password=None)
    registry = WatchedRegistry()
    for module in (inventory, _signing):
        monkeypatch.setattr(module, "open_registry", lambda _settings: registry)
    Path("pratique.toml").write_text(SETTINGS)
    Path("osv").mkdir()
    Path("osv/PYSEC-2026-1.json").write_bytes(
        msgspec.json.encode(record("PYSEC-2026-1", "requests", fixed="2.0", aliases=["CVE-2026-1"]))
    )
    import_advisories(ImportRequest((Path("osv"),), Path("advisories.db"), now=NOW))
    digest = registry.push_image().digest
    Path("sbom.json").write_bytes(sbom(purl("requests", "1.0"), purl("flask", "3.0")))
    signed = ("--repository", REPOSITORY, "--key", "release.key")
    assert run("attest", digest, *signed, "--type", "sbom", "--predicate", "sbom.json") == 0
    assert run("sign", digest, *signed) == 0
    record_release(key, digest)
    capsys.readouterr()
    return digest


def test_what_runs_is_synced_and_found_by_an_alias(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inventory", "sync", *CONFIG) == 0
    assert run("triage", "CVE-2026-1", *CONFIG) == 1
    said = capsys.readouterr()
    assert f"{image}  {REPOSITORY}" in said.out
    assert "RUNS in production as stable on local since" in said.out
    assert "fixed in 2.0" in said.out
    assert "1 of 1 images are affected, 1 of them run" in said.err


def test_triage_tells_json_and_its_exit_codes(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("triage", "CVE-2026-1", *CONFIG) == 3  # there is no index
    assert run("inventory", "add", image, "--repository", REPOSITORY, *CONFIG, "--dry-run") == 0
    assert not Path("triage.db").exists()
    assert run("inventory", "add", image, "--repository", REPOSITORY, *CONFIG, "--json") == 0
    (added,) = msgspec.json.decode(capsys.readouterr().out)["images"]
    assert (added["num_new"], added["problems"]) == (1, [])
    assert run("triage", "requests@<1.5", *CONFIG, "--json") == 1
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (told["schema_version"], told["num_images"], told["running"]) == (1, 1, [])
    assert run("triage", "flask@<2", *CONFIG) == 0
    assert run("triage", "CVE-1999-1", *CONFIG) == 3
    assert run("triage", "flask@>2", *CONFIG) == 2


def test_an_image_that_nobody_says_anything_of_is_no_success(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    del image
    assert run("inventory", "add", digest_of(b"none"), "--repository", REPOSITORY, *CONFIG) == 1
    assert run("inventory", "sync", *CONFIG, "--dry-run") == 0
    assert "would read 'releases'" in capsys.readouterr().err


def test_an_audit_without_a_policy_shows_all_and_decides_nothing(
    image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("audit", image, *CONFIG, "--html", "audit.html") == 1  # promoted without any decision
    said = capsys.readouterr().out
    assert "nobody says whose word counts" in said
    assert "no decision of the gate came before it" in said
    assert image in Path("audit.html").read_text()
    assert run("audit", image, "--repository", REPOSITORY, *CONFIG, "--json") == 1
    told = msgspec.json.decode(capsys.readouterr().out)
    assert {one["name"]: one["verdict"] for one in told["links"]}["ledger"] == "holds"
    assert (told["schema_version"], told["verdict"], told["policy"]) == (1, "broken", None)


def test_an_audit_needs_a_digest_a_place_and_a_file_it_may_write(image: str) -> None:
    assert run("audit", "latest", *CONFIG) == 2
    assert run("audit", digest_of(b"nowhere"), *CONFIG) == 1
    assert run("audit", image, *CONFIG, "--html", "no/such/folder.html") == 2
    assert run("audit", image, *CONFIG, "--policy", "none.toml") != 0


def test_the_feed_tells_once_in_lines_and_in_the_ledger(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inventory", "sync", *CONFIG) == 0
    capsys.readouterr()
    assert run("feed", "watch", "osv", "--dry-run", *CONFIG) == 0
    assert (
        f"PYSEC-2026-1 (new, unknown): 1 images by {purl('requests', '1.0')}; RUNS: {image}" in capsys.readouterr().out
    )
    assert run("feed", "watch", "osv", "--once", "--json", "--ledger", *CONFIG) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (told["schema_version"], told["advisory"], told["news"]) == (1, "PYSEC-2026-1", "new")
    assert run("feed", "watch", "osv", "--once", "--json", *CONFIG) == 0
    assert capsys.readouterr().out == ""
    assert run("ledger", "show", *CONFIG, "--kind", "alert", "--json") == 0
    (entry,) = msgspec.json.decode(capsys.readouterr().out)["entries"]
    assert (entry["subject"], entry["body"]["alert"]) == (image, told["id"])


def test_a_feed_that_cannot_be_read_is_undecided(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    del image
    assert run("inventory", "sync", *CONFIG) == 0
    assert run("feed", "watch", "none.zip", "--once", *CONFIG) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_the_watcher_goes_on_after_a_round_that_failed(
    image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del image
    rounds: list[float] = []

    def pause(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 1:
            assert run("inventory", "sync", *CONFIG) == 0
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", pause)
    assert run("feed", "watch", "osv", *CONFIG) == 130
    assert rounds == [900.0, 900.0]
    said = capsys.readouterr()
    assert "this round failed: there is no triage index" in said.err
    assert "PYSEC-2026-1 (new" in said.out
