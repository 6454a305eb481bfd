"""Puts the templates that are not there into a project. Never over a file, and after an error nothing new stays."""

from __future__ import annotations

import contextlib
import enum
from pathlib import Path
from typing import Final

from pratique.testkit.errors import TestkitUsageError

__all__ = ["TEMPLATES", "Found", "copy_templates"]

TEMPLATES: Final = {"compose.test.yaml": "compose.test.yaml", "test.yml": ".github/workflows/test.yml"}
"""File beside this module → where it belongs in a project."""


class Found(enum.StrEnum):
    """What was in a template's place."""

    NOTHING = "nothing"
    """So it is written."""
    SAME = "same"
    OTHER = "other"


def copy_templates(root: Path, *, dry_run: bool = False) -> dict[Path, Found]:
    """Write the templates that are not there; return all places, and what was found in each.

    Raises:
        TestkitUsageError: the project's folder is not there, or cannot be written.
    """
    if not root.is_dir():
        raise TestkitUsageError(f"Expected a project's folder, found none at {root}.")
    sources = {root / place: Path(__file__).parent / name for name, place in TEMPLATES.items()}
    found = {target: _look(target, source) for target, source in sources.items()}
    if not dry_run:
        _write({target: source for target, source in sources.items() if found[target] is Found.NOTHING})
    return found


def _look(target: Path, source: Path) -> Found:
    if not (target.exists() or target.is_symlink()):
        return Found.NOTHING
    return Found.SAME if target.is_file() and target.read_bytes() == source.read_bytes() else Found.OTHER


def _write(sources: dict[Path, Path]) -> None:
    with contextlib.ExitStack() as undo:
        for target, source in sources.items():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    undo.callback(target.unlink, missing_ok=True)
                    file.write(source.read_bytes())
            except OSError as error:
                raise TestkitUsageError(f"{target} cannot be written: {error}.") from error
        undo.pop_all()
