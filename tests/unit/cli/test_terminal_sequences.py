"""What others wrote reaches a terminal as text: no sequence of theirs is obeyed, and nothing turns a line around."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from pratique.cli import approve, verify
from pratique.cli.main import app, main
from pratique.core.errors import CallerError
from pratique.release.build.layout import add_layer, canonical_json, write_image
from pratique.release.policy.acts import ToReview
from pratique.release.predicates import HYGIENE, Change, Finding, Hygiene
from pratique.release.signing.interface import Attestation, Dossier, Unverified
from pratique.release.statements import make_statement
from pratique.release.values import CertificateIdentity, Subject, digest_of

pytestmark = pytest.mark.unit

EVIL = "\x1b]0;owned\x07\x1b[2K\x9b31m\u202egpj"
IMAGE = digest_of(b"image")


def assert_seen(said: str) -> None:
    assert "owned" in said
    assert not [one for one in said if not one.isprintable() and one != "\n"]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    return result.output


def test_findings_in_a_statement_are_shown_as_text(tmp_path: Path) -> None:
    finding = Finding(rule="r", level="error", where=EVIL, message="m")
    content = Hygiene(findings=(finding,), checked=("r",), size_bytes=1, wasted_bytes=0)
    file = tmp_path / "hygiene.json"
    file.write_bytes(make_statement(IMAGE, HYGIENE, content).payload)
    assert_seen(run("evidence", "show", str(file)))
    file.write_bytes(make_statement(IMAGE, f"urn:{EVIL}", {}).payload)
    assert_seen(run("evidence", "show", str(file)))


def test_a_path_in_a_layer_is_shown_as_text(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(f"su{EVIL}")
        info.mode = 0o4755
        tar.addfile(info)
    layer = add_layer(tmp_path, io.BytesIO(out.getvalue()))
    write_image(tmp_path, canonical_json({"config": {}, "rootfs": {"diff_ids": [layer.diff_id]}}), [layer])
    assert_seen(run("build", "inspect", str(tmp_path)))


def test_a_strangers_statement_beside_an_image_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    statement = make_statement(IMAGE, f"urn:{EVIL}", {})
    signed = Attestation(statement, CertificateIdentity("https://issuer.example", EVIL), None, IMAGE)
    verify._print(Dossier(Subject("a.example/b", IMAGE), (signed,), (Unverified("w", EVIL),)), as_json=False)
    said = capsys.readouterr()
    assert_seen(said.out)
    assert_seen(said.err)


def test_a_package_to_review_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    approve._print_changes((ToReview(IMAGE, ((Change(package=EVIL, after="1"), "new"),)),), as_json=False)
    assert_seen(capsys.readouterr().out)


def test_a_line_of_a_lock_is_shown_as_text(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"a=={EVIL.replace(' ', '')}\n", encoding="utf-8")
    assert_seen(run("lock", "verify", str(file)))


def test_an_errors_message_is_shown_as_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["evidence", "show", str(tmp_path / f"no{EVIL}")])
    assert_seen(capsys.readouterr().err)


def test_lines_of_an_error_stay_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> object:
        raise CallerError("one\n\ttwo\r", hint="thr\x1bee")

    monkeypatch.setattr("pratique.cli.evidence.read_statement", fail)
    with pytest.raises(SystemExit):
        main(["evidence", "show", "x"])
    assert capsys.readouterr().err == "error: one\n\ttwo\\u{d}\nhint: thr\\u{1b}ee\n"


def test_json_for_programs_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "statement.json"
    file.write_bytes(make_statement(IMAGE, f"urn:{EVIL}", {}).payload)
    told = msgspec.json.decode(run("evidence", "show", str(file), "--json"))
    assert told["statements"][0]["predicate_type"] == f"urn:{EVIL}"
