"""`pratique eval`: exit codes, files, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.release.evaluation.scripted_model import BARE, MODEL, ScriptedModel, SilentModel, lines
from tests.unit.release.evidence.images_made import make_image
from typer.testing import CliRunner, Result

from pratique.cli.main import app
from pratique.release.evaluation.client import HttpServer
from pratique.release.evaluation.golden import parse_golden_set
from pratique.release.predicates import EVALUATION, Evaluation
from pratique.release.registry.layout import ImageLayout, push_image
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keys import create_key, load_public_key
from pratique.release.signing.trust import load_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import parse_statement
from pratique.release.values import Subject

pytestmark = pytest.mark.unit

SUBJECT = "sha256:" + "5" * 64
Serve = Callable[[ScriptedModel], None]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    return lambda model: monkeypatch.setattr(HttpServer, "open", lambda url, settings: model)


@pytest.fixture
def asked(tmp_path: Path, serve: Serve) -> tuple[str | Path, ...]:
    """What stands behind `run` for the recorded set, and a server that passes."""
    serve(ScriptedModel())
    (tmp_path / "bare.jsonl").write_bytes(BARE)
    golden = tmp_path / "golden.jsonl"
    made = run("record", tmp_path / "bare.jsonl", "--url", "http://x", "--model", MODEL, "--output", golden)
    assert made.exit_code == 0
    assert made.stdout.startswith(parse_golden_set(golden.read_bytes(), where="x").digest)
    return (golden, "--url", "http://x", "--model", MODEL)


def test_a_model_that_passes_has_evidence_of_it(asked: tuple[str | Path, ...], tmp_path: Path) -> None:
    ran = run("run", *asked, "--subject", SUBJECT, "--output", tmp_path / "evaluation.json")
    assert ran.exit_code == 0
    statement = parse_statement((tmp_path / "evaluation.json").read_bytes())
    assert (statement.subjects, statement.predicate_type) == ((SUBJECT,), EVALUATION)
    said = statement.read(Evaluation)
    assert said.model == MODEL
    assert said.golden_set == parse_golden_set(Path(asked[0]).read_bytes(), where="x").digest
    assert ran.stdout.splitlines()[:2] == ["pass", "answers: 1 of 2, at least 0.9: ok"]
    assert f"statement {statement.digest}" in ran.stdout
    assert "divergence: " in ran.stdout
    shown = CliRunner().invoke(app, ["evidence", "show", str(tmp_path / "evaluation.json")])
    assert "passed  answers  1 of 2, at least 0.9" in shown.stdout


def test_the_evidence_is_signed_and_attached_like_other_evidence(
    asked: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, repository = MemoryRegistry(), "registry.example/team/chat"
    monkeypatch.setattr("pratique.cli._signing.open_registry", lambda _settings: registry)
    image = make_image(tmp_path / "image")
    push_image(ImageLayout(image.layout), image.subject.digest, registry, repository)
    create_key(tmp_path / "evaluator.key", kind="p256", password=None)
    file = tmp_path / "evaluation.json"
    assert run("run", *asked, "--subject", image.subject.digest, "--output", file).exit_code == 0
    flags = ["--repository", repository, "--key", str(tmp_path / "evaluator.key")]
    assert CliRunner().invoke(app, ["evidence", "attach", str(file), *flags]).exit_code == 0
    verifier = BundleVerifier((load_public_key(tmp_path / "evaluator.key.pub"),), load_trust_root(None))
    [found] = load_dossier(registry, Subject(repository, image.subject.digest), verifier).attestations
    assert found.statement.payload == file.read_bytes()


def test_a_model_that_is_off_has_evidence_of_that(asked: tuple[str | Path, ...], tmp_path: Path, serve: Serve) -> None:
    serve(ScriptedModel(shift=0.3))
    ran = run("run", *asked, "--subject", SUBJECT, "--output", tmp_path / "evaluation.json", "--json")
    assert ran.exit_code == 1
    told = json.loads(ran.stdout)
    assert (told["schema_version"], told["verdict"]) == (1, "fail")
    assert told["problems"] == ["logprob-mean is 0.300044, at most 0.05 is required"]
    assert told["measures"]["answers"] == {"value": 1.0, "num_samples": 2}
    statement = parse_statement((tmp_path / "evaluation.json").read_bytes())
    assert told["statement"] == statement.digest
    assert [one.name for one in statement.read(Evaluation).checks if not one.passed] == ["logprob-mean"]
    printed = run("run", *asked)
    assert "logprob-mean: 0.300044 of 8, at most 0.05: FAILED" in printed.stdout
    assert "france: the token It is off by 0.300 nats" in printed.stderr


def test_a_server_that_does_not_answer_leaves_nothing(
    asked: tuple[str | Path, ...], tmp_path: Path, serve: Serve
) -> None:
    serve(SilentModel())
    assert run("run", *asked, "--subject", SUBJECT, "--output", tmp_path / "evaluation.json").exit_code == 3
    assert not (tmp_path / "evaluation.json").exists()


def test_another_model_is_refused(asked: tuple[str | Path, ...], serve: Serve) -> None:
    serve(ScriptedModel(models=("big",)))
    ran = run("run", *asked)
    assert ran.exit_code == 1
    assert "no model 'small'; it has: big" in ran.stderr


def test_thresholds_are_said_with_the_command(asked: tuple[str | Path, ...], serve: Serve) -> None:
    serve(ScriptedModel(shift=0.3))
    assert run("run", *asked, "--threshold", "logprob-mean=0.5").exit_code == 0
    serve(ScriptedModel())
    assert run("run", *asked, "--threshold", "logprob-mean=0.00000001").exit_code == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--threshold", "answers"), "expected NAME=NUMBER"),
        (("--threshold", "answers=high"), "expected NAME=NUMBER"),
        (("--threshold", "answers=nan"), "expected a number"),
        (("--threshold", "elegance=1"), "this is not measured"),
        (("--subject", SUBJECT), "--subject and --output go together"),
        (("--output", "x.json"), "--subject and --output go together"),
        (("--subject", "latest", "--output", "x.json"), "expected a digest"),
        (("--policy", "none.toml"), "none.toml cannot be read"),
    ],
)
def test_wrong_usage_is_said(asked: tuple[str | Path, ...], more: tuple[str, ...], said: str) -> None:
    ran = run("run", *asked, *more)
    assert ran.exit_code == 2
    assert said in ran.stderr


def test_nothing_that_is_there_is_written_over(asked: tuple[str | Path, ...], tmp_path: Path) -> None:
    for arguments in (("run", *asked, "--subject", SUBJECT), ("record", *asked)):
        ran = run(*arguments, "--output", tmp_path / "bare.jsonl")
        assert ran.exit_code == 2
        assert "is there already" in ran.stderr
    assert (tmp_path / "bare.jsonl").read_bytes() == BARE
    ran = run("record", *asked, "--output", tmp_path / "none" / "x.jsonl")
    assert ran.exit_code == 2
    assert "cannot be written" in ran.stderr


def test_a_set_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    ran = run("run", tmp_path / "none.jsonl", "--url", "http://x", "--model", MODEL)
    assert (ran.exit_code, "cannot be read" in ran.stderr) == (2, True)
    (tmp_path / "empty.jsonl").write_bytes(lines({"golden_set": 1, "name": "x"}))
    ran = run("run", tmp_path / "empty.jsonl", "--url", "http://x", "--model", MODEL)
    assert (ran.exit_code, "has no cases" in ran.stderr) == (2, True)


def test_a_dry_run_asks_and_writes_nothing(asked: tuple[str | Path, ...], tmp_path: Path, serve: Serve) -> None:
    server = ScriptedModel()
    serve(server)
    ran = run("run", *asked, "--subject", SUBJECT, "--output", tmp_path / "x.json", "--dry-run")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "would ask 'small' at http://scripted 3 cases of sha256:" in ran.stderr
    ran = run("record", *asked, "--output", tmp_path / "x.json", "--dry-run")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert "would record 3 cases" in ran.stderr
    assert server.asked == []
    assert not (tmp_path / "x.json").exists()


def test_recording_tells_where_and_what(asked: tuple[str | Path, ...], tmp_path: Path) -> None:
    ran = run("record", *asked, "--output", tmp_path / "again.jsonl", "--note", "float32", "--json")
    told = json.loads(ran.stdout)
    digest = parse_golden_set((tmp_path / "again.jsonl").read_bytes(), where="x").digest
    assert told == {"schema_version": 1, "golden_set": digest, "cases": 3, "file": str(tmp_path / "again.jsonl")}
