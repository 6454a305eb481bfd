"""`pratique evidence`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.release.advisories.osv_records import affected, events, record
from tests.unit.release.evidence.images_made import bom, build_record, make_image, pypi, sbom_of
from typer.testing import CliRunner, Result

from pratique.cli.evidence import app
from pratique.core.errors import CallerError
from pratique.release.advisories.errors import AdvisoryDatabaseError
from pratique.release.build.record import write_record
from pratique.release.errors import EvidenceError
from pratique.release.evidence.interface import Image, Predicate
from pratique.release.openvex import Document
from pratique.release.predicates import SBOM, VULNERABILITIES, DependencyReview, Scan
from pratique.release.statements import Statement, parse_statement
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

DIGEST = "sha256:" + "2" * 64
REPOSITORY = ("--repository", "registry.example/team/chat")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def statement(file: Path) -> Statement:
    return parse_statement(file.read_bytes())


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path / "image")


@pytest.fixture
def sbom(image: Image, tmp_path: Path) -> Path:
    file = tmp_path / "sbom.json"
    file.write_bytes(sbom_of(image.subject.digest, pypi("left-pad", "1.0", "MIT"), pypi("b", "1")).payload)
    return file


@pytest.fixture
def database(tmp_path: Path) -> Path:
    from datetime import UTC, datetime

    from pratique.release.advisories.importing import ImportRequest, import_advisories

    (tmp_path / "osv").mkdir()
    body = record("PYSEC-1", affected(events("introduced 0", "fixed 2"), name="left-pad"), aliases=["CVE-1"])
    (tmp_path / "osv" / "a.json").write_bytes(body)
    file = tmp_path / "advisories.db"
    import_advisories(ImportRequest((tmp_path / "osv",), file, datetime(2024, 6, 1, tzinfo=UTC)))
    return file


def test_all_evidence_is_collected_and_shown(image: Image, sbom: Path, database: Path, tmp_path: Path) -> None:
    build = tmp_path / "build-record.json"
    write_record(build, build_record(image.subject.digest))
    output = tmp_path / "evidence"
    made_from = ("--sbom", sbom, "--advisories", database, "--record", build, "--first")
    ran = run("collect", image.layout, *REPOSITORY, "--output", output, *made_from)
    assert ran.exit_code == 0
    assert "1 vulnerabilities in 2 components looked at" in ran.stdout
    assert "unknown  PYSEC-1/CVE-1  pkg:pypi/left-pad@1.0; fixed in 2" in ran.stdout
    assert "pkg:pypi/left-pad  new → 1.0; licence MIT" in ran.stdout
    assert "rules, 0.0 MB wasted" in ran.stdout
    assert "from git+https://git.example/team/chat@" in ran.stdout
    assert sorted(file.name for file in output.iterdir()) == [
        "dependencies.json",
        "hygiene.json",
        "provenance.json",
        "vulnerabilities.json",
    ]
    shown = run("show", *sorted(output.iterdir()), sbom).stdout
    assert "2 components: 2 pypi" in shown
    assert "built by urn:pratique:builder:ci" in shown


def test_what_is_not_collected_is_said(image: Image, sbom: Path, tmp_path: Path) -> None:
    nothing = ("--sbom", sbom, "--no-scan", "--no-hygiene")
    ran = run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", *nothing, "--json")
    assert json.loads(ran.stdout) == {"schema_version": 1, "image": image.subject.digest, "evidence": []}
    for what in ("no scan", "no dependency diff", "no provenance", "no hygiene"):
        assert what in ran.stderr


def test_a_bill_of_materials_is_made_where_none_is_given(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Predicate(SBOM, bom(pypi("a", "1")))
    monkeypatch.setattr("pratique.release.evidence.collecting.SbomCollector.collect", lambda _self, _image: made)
    ran = run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", "--no-scan", "--json")
    one, other = json.loads(ran.stdout)["evidence"]
    assert other["name"] == "hygiene"
    assert one["statement"] == statement(tmp_path / "x" / "sbom.json").digest
    assert one["predicate_type"] == SBOM


def test_a_dry_run_collects_nothing(image: Image, tmp_path: Path) -> None:
    ran = run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", "--no-scan", "--dry-run")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert f"would collect evidence about {image.subject.digest}" in ran.stderr
    assert not (tmp_path / "x").exists()


def test_without_a_database_nothing_is_begun(image: Image, tmp_path: Path) -> None:
    with pytest.raises(AdvisoryDatabaseError):
        run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", "--advisories", tmp_path / "none.db")
    assert not (tmp_path / "x").exists()


def test_a_baseline_is_compared_with(image: Image, sbom: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_bytes(sbom_of(statement_digest := digest_of(b"old"), pypi("left-pad", "1.0", "GPL-2.0-only")).payload)
    given = ("--sbom", sbom, "--no-scan", "--baseline", statement_digest, "--baseline-sbom", old)
    ran = run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", *given)
    assert "pkg:pypi/left-pad  1.0 → 1.0; licence GPL-2.0-only → MIT" in ran.stdout
    with pytest.raises(CallerError, match="--first means"):
        run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", *given, "--first")


def test_another_scanners_report_is_taken(image: Image, sbom: Path, tmp_path: Path) -> None:
    report = tmp_path / "trivy.json"
    metadata = {"RepoDigests": [f"registry.example/team/chat@{image.subject.digest}"]}
    body = {"SchemaVersion": 2, "CreatedAt": "2024-06-01T00:00:00Z", "ArtifactName": "x", "Metadata": metadata}
    report.write_text(json.dumps(body))
    given = ("report", report, image.layout, *REPOSITORY, "--sbom", sbom, "--output", tmp_path / "scan.json")
    ran = run(*given, "--database-updated-at", "2024-05-31T00:00:00Z", "--num-components", "2")
    made = statement(tmp_path / "scan.json")
    assert made.predicate_type == VULNERABILITIES
    assert made.digest in ran.stdout
    assert made.read(Scan).result.num_components == 2
    assert "0 vulnerabilities in 2 components looked at" in run("show", tmp_path / "scan.json").stdout
    with pytest.raises(CallerError, match="is there already"):
        run(*given)
    with pytest.raises(CallerError, match="--database-updated-at soon"):
        run(*given, "--database-updated-at", "soon")


VEX = ("--vulnerability", "CVE-1", "--author", "alice", "--note", "never called")


def test_exploitability_is_stated(tmp_path: Path) -> None:
    output = tmp_path / "vex.json"
    how = ("--justification", "vulnerable_code_not_in_execute_path", "--expires", "2999-01-01T00:00:00Z")
    about = ("--package", "pkg:pypi/left-pad@1.0", "--alias", "PYSEC-1", "--name", "chat")
    assert run("vex", DIGEST, *VEX, "--status", "not_affected", *how, *about, "--output", output).exit_code == 0
    (said,) = statement(output).read(Document).statements
    assert said.vulnerability.aliases == ("PYSEC-1",)
    assert statement(output).subjects == (DIGEST,)
    shown = run("show", output).stdout
    assert "CVE-1: not_affected (vulnerable_code_not_in_execute_path), until 2999-01-01T00:00:00+00:00" in shown


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("--status", "harmless"), "--status harmless: expected one of not_affected"),
        (("--status", "not_affected", "--justification", "trust"), "--justification trust"),
        (("--status", "fixed", "--expires", "soon"), "--expires soon"),
    ],
)
def test_a_statement_with_words_that_openvex_does_not_have_is_wrong_usage(
    wrong: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    with pytest.raises(CallerError, match=why):
        run("vex", DIGEST, *VEX, *wrong, "--output", tmp_path / "x")


def test_what_was_written_is_told_as_json(tmp_path: Path) -> None:
    output = tmp_path / "vex.json"
    told = json.loads(run("vex", DIGEST, *VEX, "--status", "fixed", "--output", output, "--json").stdout)
    assert told == {
        "schema_version": 1,
        "predicate_type": "https://openvex.dev/ns/v0.2.0",
        "statement": statement(output).digest,
        "file": str(output),
    }


def test_an_image_that_is_no_folder_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="there is no folder") as raised:
        run("collect", tmp_path / "none", *REPOSITORY, "--output", tmp_path / "x", "--no-scan")
    assert "pratique build" in str(raised.value.hint)


def test_a_dry_run_states_nothing(tmp_path: Path) -> None:
    ran = run("vex", DIGEST, *VEX, "--status", "fixed", "--output", tmp_path / "x", "--dry-run")
    assert "would write sha256:" in ran.stderr
    assert not (tmp_path / "x").exists()


def test_changes_are_accepted_by_name_or_all_together(image: Image, sbom: Path, tmp_path: Path) -> None:
    run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", "--sbom", sbom, "--no-scan", "--first")
    diff = tmp_path / "x" / "dependencies.json"
    review: Any = ("review", diff, "--reason", "read it", "--output")
    run(*review, tmp_path / "one.json", "--accept", "pkg:pypi/b")
    run(*review, tmp_path / "all.json", "--all")
    assert statement(tmp_path / "one.json").read(DependencyReview).accepted == ("pkg:pypi/b",)
    assert statement(tmp_path / "all.json").read(DependencyReview).accepted == ("pkg:pypi/b", "pkg:pypi/left-pad")
    assert "accepts 2 changes of sha256:" in run("show", tmp_path / "all.json").stdout
    for flags in ((), ("--all", "--accept", "pkg:pypi/b")):
        with pytest.raises(CallerError, match="Say which packages"):
            run(*review, tmp_path / "none.json", *flags)
    with pytest.raises(EvidenceError, match="no change of pkg:pypi/c"):
        run(*review, tmp_path / "none.json", "--accept", "pkg:pypi/c")


def test_statements_are_shown_as_json_and_unknown_kinds_by_name(tmp_path: Path) -> None:
    from pratique.release.statements import make_statement

    file = tmp_path / "x.json"
    file.write_bytes(make_statement(digest_of(b"x"), "urn:other", {"a": 1}).payload)
    assert run("show", file).stdout.startswith(f"{file}: urn:other\n")
    (one,) = json.loads(run("show", file, "--json").stdout)["statements"]
    assert one["predicate"] == {"a": 1}


def test_long_lists_are_cut_for_people(image: Image, tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    file.write_bytes(sbom_of(image.subject.digest, *(pypi(f"p{number}", "1") for number in range(40))).payload)
    ran = run("collect", image.layout, *REPOSITORY, "--output", tmp_path / "x", "--sbom", file, "--no-scan", "--first")
    assert "licence not known" in ran.stdout
    assert "… and 10 more: `pratique evidence show FILE --json` shows all" in ran.stdout


def test_files_that_cannot_be_read_or_written_are_told(image: Image, tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="cannot be read"):
        run("show", tmp_path / "none.json")
    sbom = tmp_path / "sbom.json"
    sbom.write_bytes(sbom_of(image.subject.digest, pypi("a", "1")).payload)
    given = ("--sbom", sbom, "--output", tmp_path / "x")
    with pytest.raises(CallerError, match=r"trivy\.json cannot be read"):
        run("report", tmp_path / "trivy.json", image.layout, *REPOSITORY, *given)
    with pytest.raises(CallerError, match="cannot be written"):
        run("vex", DIGEST, *VEX, "--status", "fixed", "--output", tmp_path / "no" / "folder" / "x")
