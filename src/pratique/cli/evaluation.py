"""`pratique eval run | record`: parse, call, render. Exit codes: 0 passed; 1 not; 2 wrong usage; 3 could not decide."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import Config, Json, release_settings
from pratique.core.errors import CallerError
from pratique.release.values import parse_digest

if TYPE_CHECKING:
    from pratique.release.evaluation.golden import GoldenSet
    from pratique.release.evaluation.running import Evaluated
    from pratique.release.values import Digest

__all__ = ["app"]

app = typer.Typer(help="Evaluate a model that is served, with a golden set.", no_args_is_help=True)

_Set = Annotated[Path, typer.Argument(help="The golden set, JSON lines.", metavar="SET")]
_Url = Annotated[str, typer.Option(help="A server of the OpenAI API, for example http://127.0.0.1:8081.")]
_Model = Annotated[str, typer.Option(help="The model's name there.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Check what is given, ask nothing and write nothing.")]
_REFUSED = 1


@app.command("run")
def run(
    file: _Set,
    url: _Url,
    model: _Model,
    subject: Annotated[
        str | None, typer.Option(help="Digest of the image, or the model artifact, that is served: sha256:….")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="A new file for the statement about the subject.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Take the thresholds of this policy's rule.")] = None,
    threshold: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER, before the set's and the policy's.")] = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Put a golden set to a model. Exit code 0: it passed, 1: it did not, 3: not every case has a whole answer."""
    from pratique.release.evaluation.client import HttpServer
    from pratique.release.evaluation.limits import limits_of
    from pratique.release.evaluation.running import evaluate, require_measurable
    from pratique.release.policy.gate import read_policy

    if (subject is None) != (output is None):
        raise CallerError("--subject and --output go together: a statement is about something, and in a file.")
    digest = parse_digest(subject) if subject else None
    _require_new(output)
    golden = _read(file)
    limits = limits_of(golden, model, read_policy(policy) if policy else None, _thresholds(threshold or []))
    require_measurable(golden, limits)
    server = HttpServer.open(url, release_settings(config).evaluation)
    if dry_run:
        _say(f"would ask '{model}' at {server.base} {len(golden.cases)} cases of {golden.digest}")
        return
    found = evaluate(server, golden, model, limits)
    statement = _write(output, digest, found) if output and digest else None
    _show(found, statement, as_json=as_json)
    if not found.verdict.passed:
        raise typer.Exit(_REFUSED)


@app.command("record")
def record(
    file: _Set,
    url: _Url,
    model: _Model,
    output: Annotated[Path, typer.Option(help="A new file for the golden set with its reference.")],
    note: Annotated[str, typer.Option(help="How that server computes, for people.")] = "",
    config: Config = None,
    as_json: Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Record the reference of a golden set from a server that is trusted."""
    from pratique.release.evaluation.client import HttpServer
    from pratique.release.evaluation.running import record as record_from
    from pratique.release.values import digest_of

    _require_new(output)
    golden = _read(file)
    server = HttpServer.open(url, release_settings(config).evaluation)
    if dry_run:
        _say(f"would record {len(golden.cases)} cases from '{model}' at {server.base} into {output}")
        return
    content = record_from(server, golden, model, note=note)
    _save(output, content)
    if as_json:
        told = {"schema_version": 1, "golden_set": digest_of(content), "cases": len(golden.cases), "file": str(output)}
        print(msgspec.json.encode(told).decode())
    else:
        print(f"{digest_of(content)}  {output}")


def _read(file: Path) -> GoldenSet:
    from pratique.release.evaluation.golden import MAX_GOLDEN_SET_BYTES, parse_golden_set

    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_GOLDEN_SET_BYTES + 1)
    except OSError as error:
        raise CallerError(f"the golden set {file} cannot be read: {error.strerror}") from error
    return parse_golden_set(content, where=str(file))


def _thresholds(given: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in given:
        name, _, number = one.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise CallerError(f"--threshold {one}: expected NAME=NUMBER") from error
    return found


def _require_new(output: Path | None) -> None:
    """Look before the work begins, which takes minutes."""
    if output is not None and output.exists():
        raise CallerError(f"{output} is there already.", hint="Name a new file.")


def _write(output: Path, subject: Digest, found: Evaluated) -> Digest:
    from pratique.release.predicates import EVALUATION
    from pratique.release.statements import make_statement

    statement = make_statement(subject, EVALUATION, found.evaluation)
    _save(output, statement.payload)
    return statement.digest


def _save(output: Path, content: bytes) -> None:
    try:
        with output.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise CallerError(f"{output} cannot be written: {error.strerror}.") from error


def _show(found: Evaluated, statement: Digest | None, *, as_json: bool) -> None:
    verdict = found.verdict
    if as_json:
        told = {
            "schema_version": 1,
            "verdict": "pass" if verdict.passed else "fail",
            "evaluation": found.evaluation,
            "problems": verdict.problems,
            "measures": {
                name: {"value": float(one.value), "num_samples": one.num_samples}
                for name, one in found.measures.items()
            },
            "notes": found.notes,
            "statement": statement,
        }
        print(msgspec.json.encode(told).decode())
        return
    print("pass" if verdict.passed else "fail")
    checks = {check.name: check for check in found.evaluation.checks}
    for name, one in found.measures.items():
        check = checks.get(name)
        held = f", at {check.at} {check.threshold:g}: {'ok' if check.passed else 'FAILED'}" if check else ""
        print(f"{name}: {one.value:.6g} of {one.num_samples}{held}")
    if statement:
        print(f"statement {statement}")
    for line in (*verdict.problems, *found.notes):
        _say(line)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
