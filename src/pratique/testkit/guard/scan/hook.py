"""The pre-commit hook of a checkout: a script that scans what is staged."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pratique.core.errors import RefusedError
from pratique.testkit.guard.scan.git import ask_git

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ForeignHookError", "hook_file", "hook_script", "install_hook"]

_MARK: Final = "# Installed by: pratique secrets install-hook"


class ForeignHookError(RefusedError):
    """There is a hook that somebody else wrote."""

    code = "foreign_hook"


def hook_file(folder: Path) -> Path:
    """Return where git looks for the hook, `core.hooksPath` and linked work trees included.

    Raises:
        ScanFailedError: this is no checkout.
    """
    named = ask_git(folder, "rev-parse", "--git-path", "hooks/pre-commit").rstrip(b"\n")
    return folder / Path(os.fsdecode(named)).expanduser()


def hook_script(command: Sequence[str]) -> str:
    """Return the hook. Where the command is gone the commit is refused: git takes no status but 0 for a yes."""
    return (
        f"#!/bin/sh\n{_MARK}\n"
        f"{shlex.join(command)} secrets scan --staged && exit 0\n"
        "status=$?\n"
        'echo "pratique: the commit was stopped (see above). Unlooked at, it passes with: git commit --no-verify" >&2\n'
        'exit "$status"\n'
    )


def install_hook(file: Path, script: str, *, overwrites: bool) -> None:
    """Write the hook.

    Raises:
        ForeignHookError: another is there, and `overwrites` does not say that it may go.
    """
    if not overwrites and os.path.lexists(file) and not _is_ours(file):
        raise ForeignHookError(
            f"There is another hook at {file}.",
            hint="Call `pratique secrets scan --staged` in it, or replace it: --force.",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    fresh.write_text(script, encoding="utf-8")
    fresh.chmod(0o755)
    fresh.replace(file)


def _is_ours(file: Path) -> bool:
    try:
        return _MARK in file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
