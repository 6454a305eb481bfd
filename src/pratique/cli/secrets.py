"""`pratique secrets scan | install-hook`: parse, call, render. Works without any extra.

Exit codes of a scan: 0 nothing found; 1 found; 2 wrong usage; 3 nothing found, but not everything could be looked at.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from pratique.core.secrets.model import Finding, Report

__all__ = ["app"]

app = typer.Typer(help="Find secrets before they get out.", no_args_is_help=True)

_UNDECIDED = 3
_HOW_TO_ALLOW = (
    "If one is no secret, say so on its line, with a reason: `pratique: allow-secret REASON` in a comment; "
    "or put its fingerprint and a reason into .pratique-secrets.toml."
)


@app.command("scan")
def scan(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files and folders; with --staged or --history, one folder of the checkout.", metavar="PATH"
        ),
    ] = None,
    staged: Annotated[
        bool, typer.Option("--staged", help="What the next commit would add, as the index has it.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Every line that a commit of any branch or tag added.")
    ] = False,
    revisions: Annotated[
        str,
        typer.Option("--range", help="With --history: only these commits, for example HEAD~10..HEAD.", metavar="RANGE"),
    ] = "",
    allow_file: Annotated[
        Path | None,
        typer.Option(
            "--allow-file", help="Findings that were looked at. Default: .pratique-secrets.toml of the checkout."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Look for keys, tokens and passwords. Says where and of what kind they are, never what they are."""
    from pratique.core.secrets.scanner import Scanner
    from pratique.testkit.guard.scan.errors import ScanUsageError
    from pratique.testkit.guard.scan.sources import scan_files, scan_history, scan_staged

    given = paths or [Path()]
    if staged and history:
        raise ScanUsageError("--staged and --history are two scans.", hint="Give one of them.")
    if revisions and not history:
        raise ScanUsageError("--range says which part of the history is scanned.", hint="Add --history.")
    if (staged or history) and (len(given) > 1 or not given[0].is_dir()):
        raise ScanUsageError("--staged and --history are about a checkout.", hint="Give one folder of it, or none.")
    scanner = Scanner(_allowed(given[0], allow_file))
    if staged:
        scan_staged(scanner, given[0])
    elif history:
        scan_history(scanner, given[0], revisions)
    else:
        scan_files(scanner, given)
    _print_json(scanner.report) if as_json else _print_text(scanner.report)
    if scanner.report.findings:
        raise typer.Exit(1)
    if scanner.report.problems:
        raise typer.Exit(_UNDECIDED)


@app.command("install-hook")
def install(
    force: Annotated[bool, typer.Option("--force", help="Replace a hook that somebody else wrote.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Have git refuse commits that add a secret: writes the checkout's pre-commit hook."""
    from pratique.testkit.guard.scan.hook import hook_file, hook_script, install_hook

    file = hook_file(Path())
    if dry_run:
        print(f"would write {file}", file=sys.stderr)
        return
    # -P: `python -m` would import from the checkout first, and a hook runs there, whoever wrote what is in it.
    install_hook(file, hook_script([sys.executable, "-P", "-m", "pratique.cli.main"]), overwrites=force)
    print(f"wrote {file}", file=sys.stderr)


def _allowed(first: Path, given: Path | None) -> frozenset[str]:
    from pratique.testkit.guard.scan.allow import ALLOW_FILE, load_allowed
    from pratique.testkit.guard.scan.git import git_root

    if given is not None:
        return load_allowed(given)
    folder = first if first.is_dir() else first.parent
    found = ((git_root(folder) or folder) if folder.is_dir() else folder) / ALLOW_FILE
    return load_allowed(found) if found.exists() else frozenset()


def _print_json(report: Report) -> None:
    print(
        msgspec.json.encode(
            {
                "schema_version": 1,
                "findings": [_fields(finding) for finding in report.findings],
                "problems": report.problems,
                "texts": report.num_texts,
                "bytes": report.num_bytes,
                "binaries": report.num_binaries,
                "allowed": report.num_allowed,
            }
        ).decode()
    )


def _fields(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule,
        "meaning": finding.meaning,
        "advice": finding.advice,
        "path": _printable(finding.place.path),
        "commit": finding.place.commit or None,
        "line": finding.line,
        "shown": finding.shown,
        "fingerprint": finding.fingerprint,
    }


def _print_text(report: Report) -> None:
    for finding in report.findings:
        commit = f" in commit {finding.place.commit[:12]}" if finding.place.commit else ""
        print(f"{_printable(finding.place.path)}:{finding.line}{commit}: {finding.meaning}: {finding.shown}")
        print(f"    rule {finding.rule}, fingerprint {finding.fingerprint}. {finding.advice}")
    if report.findings:
        print(_HOW_TO_ALLOW, file=sys.stderr)
    for problem in report.problems:
        print(f"could not look: {_printable(problem)}", file=sys.stderr)
    size = f"{_count(report.num_texts, 'text')}, {report.num_bytes / 1e6:.1f} MB"
    binaries, allowed = _count(report.num_binaries, "binary file"), _count(report.num_allowed, "finding")
    print(
        f"{_count(len(report.findings), 'secret')} in {size}; {binaries} passed over, {allowed} allowed",
        file=sys.stderr,
    )
    if not report.num_texts:
        print("Nothing was scanned: there is nothing to scan there.", file=sys.stderr)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _printable(path: str) -> str:
    """Return a path that cannot forge lines or terminal commands: what is not printable is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)
