"""Puts the templates into a project. All or nothing, and never over a file that is there."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from pratique.testkit.errors import TestkitUsageError

__all__ = ["TEMPLATES", "copy_templates"]

TEMPLATES: Final = {"compose.test.yaml": "compose.test.yaml", "test.yml": ".github/workflows/test.yml"}
"""File beside this module → where it belongs in a project."""


def copy_templates(root: Path, *, dry_run: bool = False) -> list[Path]:
    """Write the templates; return their paths.

    Raises:
        TestkitUsageError: the project's folder is not there or cannot be written, or one of the files is there.
    """
    if not root.is_dir():
        raise TestkitUsageError(f"Expected a project's folder, found none at {root}.")
    targets = {Path(__file__).parent / name: root / place for name, place in TEMPLATES.items()}
    for target in targets.values():
        if target.exists() or target.is_symlink():
            raise TestkitUsageError(
                f"{target} is there already, and is not replaced.", hint="Move it away, or merge the two by hand."
            )
    if not dry_run:
        _write(targets)
    return list(targets.values())


def _write(targets: dict[Path, Path]) -> None:
    with contextlib.ExitStack() as undo:
        for source, target in targets.items():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    undo.callback(target.unlink, missing_ok=True)
                    file.write(source.read_bytes())
            except OSError as error:
                raise TestkitUsageError(f"{target} cannot be written: {error}.") from error
        undo.pop_all()
