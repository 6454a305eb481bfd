"""`pratique policy check | show | schema`: parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

__all__ = ["app"]

app = typer.Typer(help="Check and show the policy of the release gate.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(help="The policy.")]
_Digest = Annotated[str | None, typer.Option("--digest", help="The SHA-256 that it must have, sha256:….")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.command("check")
def check(file: _File = Path("promotion.toml"), digest: _Digest = None, as_json: _Json = False) -> None:
    """Say whether a policy can be used, and its digest. Exit code 2: it cannot; 1: it is another than expected."""
    from pratique.release.policy.gate import read_policy

    policy = read_policy(file, expected=digest)
    if as_json:
        rules = [name for name in policy.document.rules.__struct_fields__ if getattr(policy.document.rules, name)]
        _print_json({"digest": policy.digest, "environments": policy.document.environments, "rules": rules})
        return
    print(policy.digest)
    print(f"{file} can be used", file=sys.stderr)


@app.command("show")
def show(file: _File = Path("promotion.toml"), digest: _Digest = None, as_json: _Json = False) -> None:
    """Show what a policy requires, defaults included."""
    from pratique.release.policy.explain import explain_policy
    from pratique.release.policy.gate import read_policy

    policy = read_policy(file, expected=digest)
    if as_json:
        _print_json({"digest": policy.digest, "policy": policy.document})
        return
    print(explain_policy(policy))


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of the gate's decisions."""
    from pratique.release.policy.explain import decision_schema

    print(decision_schema().decode(), end="")


def _print_json(content: dict[str, object]) -> None:
    print(msgspec.json.encode({"schema_version": 1, **content}).decode())
