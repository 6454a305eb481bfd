"""`pratique advisories`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.release.advisories.osv_records import affected, events, record
from typer.testing import CliRunner, Result

from pratique.cli.advisories import app
from pratique.core.errors import CallerError
from pratique.release.advisories.errors import AdvisoryDatabaseError, AdvisoryDataError

pytestmark = pytest.mark.unit

EVERY = affected(events("introduced 0", "fixed 2"), name="left-pad")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture
def source(tmp_path: Path) -> str:
    folder = tmp_path / "osv"
    folder.mkdir()
    records = {
        "PYSEC-2024-1": record("PYSEC-2024-1", EVERY, aliases=["CVE-1"], details="It pads right."),
        "GHSA-1": record("GHSA-1", affected(name="other"), aliases=["CVE-1"], database_specific={"severity": "LOW"}),
        "PYSEC-2024-2": record("PYSEC-2024-2", EVERY, withdrawn="2024-05-02T00:00:00Z"),
    }
    for name, content in records.items():
        (folder / f"{name}.json").write_bytes(content)
    return str(folder)


@pytest.fixture
def database(tmp_path: Path, source: str) -> str:
    file = str(tmp_path / "advisories.db")
    ran = run("import", source, "--database", file)
    assert ran.exit_code == 0
    assert "3 advisories, 1 of them withdrawn" in ran.stdout
    assert "PyPI: 2 advisories about 2 packages" in ran.stdout
    assert f"{source}: 3 advisories so far" in ran.stderr
    return file


def test_a_dry_run_says_all_and_writes_nothing(source: str, tmp_path: Path) -> None:
    file = tmp_path / "advisories.db"
    ran = run("import", source, "--database", str(file), "--dry-run", "--json")
    assert json.loads(ran.stdout)["num_advisories"] == 3
    assert f"would write {file}" in ran.stderr
    assert not file.exists()


def test_records_that_cannot_be_read_are_refused_or_named(source: str, tmp_path: Path) -> None:
    (Path(source) / "broken.json").write_text("{")
    file = str(tmp_path / "advisories.db")
    with pytest.raises(AdvisoryDataError, match="1 records cannot be read"):
        run("import", source, "--database", file)
    ran = run("import", source, "--database", file, "--max-unreadable", "1")
    assert "left out: " in ran.stderr
    assert "1 left out because they cannot be read" in run("show", "--database", file).stdout


def test_the_time_of_fetching_is_a_time(source: str, tmp_path: Path) -> None:
    file = str(tmp_path / "advisories.db")
    with pytest.raises(CallerError, match="expected a time like"):
        run("import", source, "--database", file, "--as-of", "yesterday")
    ran = run("import", source, "--database", file, "--as-of", "2024-05-03T00:00:00Z", "--json")
    assert json.loads(ran.stdout)["updated_at"] == "2024-05-03T00:00:00Z"


def test_an_advisory_is_shown_by_any_of_its_names(database: str) -> None:
    ran = run("show", "CVE-1", "--database", database)
    assert "PYSEC-2024-1/CVE-1: severity low (from GHSA-1)\n  It pads right.\n" in ran.stdout
    assert "  PyPI left-pad: introduced 0 fixed 2\n" in ran.stdout
    assert "  PyPI other: no version is named\n" in ran.stdout
    assert ", withdrawn 2024-05-02" in run("show", "PYSEC-2024-2", "--database", database).stdout
    shown = json.loads(run("show", "PYSEC-2024-1", "--database", database, "--json").stdout)["advisories"]
    assert shown[0]["affected"][0]["ranges"][0]["events"] == [{"introduced": "0"}, {"fixed": "2"}]


def test_an_unknown_name_exits_with_1(database: str) -> None:
    for flags in ((), ("--json",)):
        ran = run("show", "CVE-2", "--database", database, *flags)
        assert ran.exit_code == 1
        assert "no advisory has the name 'CVE-2'" in ran.stderr


def test_what_concerns_a_package_is_shown(database: str) -> None:
    ran = run("show", "pkg:pypi/Left_Pad@1.0", "--database", database)
    assert ran.stdout == "PYSEC-2024-1  low  affected; fixed in 2  It pads right.\n"
    shown = json.loads(run("show", "pkg:pypi/other@1.0", "--database", database, "--json").stdout)["advisories"]
    assert [(one["id"], one["verdict"]) for one in shown] == [("GHSA-1", "undetermined")]
    ran = run("show", "pkg:pypi/other@1.0", "--database", database)
    assert ran.stdout == "GHSA-1  low  undetermined  \n"
    ran = run("show", "pkg:pypi/left-pad@2.0", "--database", database)
    assert ran.stdout == ""
    assert "no known vulnerability concerns" in ran.stderr


@pytest.mark.parametrize("purl", ["pkg:npm/a@1", "pkg:pypi/a", "pkg:deb/debian/a@1?distro=debian-12"])
def test_a_package_of_which_nothing_is_known_is_not_called_clean(database: str, purl: str) -> None:
    with pytest.raises(CallerError, match="nothing is known about"):
        run("show", purl, "--database", database)


def test_without_a_database_it_could_not_be_decided(tmp_path: Path) -> None:
    config = tmp_path / "pratique.toml"
    config.write_text(f'[release.advisories]\ndatabase = "{tmp_path}/none.db"\n')
    with pytest.raises(AdvisoryDatabaseError, match=r"no advisory database at .*none\.db"):
        run("show", "--config", str(config))
