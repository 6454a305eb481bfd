"""Installs the locked npm packages into the tools folder. Does nothing that is done; two at once do it once.

The lock names versions and hashes and no registry: npm takes the packages from wherever it is configured to. No
package's install script is run.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pratique.testkit.errors import ServiceMissingError, ToolsInstallError
from pratique.testkit.services.tools import find_program

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NPM_COMMAND", "install_npm_packages", "is_installed"]

NPM_COMMAND: Final = ("ci", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error")
_FILES: Final = ("package.json", "package-lock.json")
_STAMP: Final = ".pratique-lock-digest"
_SECONDS: Final = 600.0
_SAID_LINES: Final = 15


def is_installed(folder: Path) -> bool:
    """Whether a folder has what the lock names, installed by this module."""
    try:
        return (folder / "node_modules" / _STAMP).read_text("ascii") == _lock_digest()
    except OSError:
        return False


def install_npm_packages(folder: Path) -> bool:
    """Install them; return whether anything had to be done.

    Raises:
        ServiceMissingError: npm is not here.
        ToolsInstallError: npm failed; with the end of what it said.
    """
    if is_installed(folder):
        return False
    npm = find_program("npm", hint="Install Node.js 20 or newer with npm. On Debian: `apt-get install nodejs npm`.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if is_installed(folder):  # by another, meanwhile
                return False
            for file in _shipped():
                shutil.copyfile(file, folder / file.name)
            _run_npm(npm, folder)
            (folder / "node_modules" / _STAMP).write_text(_lock_digest(), "ascii")
    except OSError as error:
        raise ToolsInstallError(
            f"The folder {folder} cannot take the npm packages: {error}.",
            hint="PRATIQUE_TESTKIT_TOOLS names another folder.",
        ) from error
    return True


def _run_npm(npm: Path, folder: Path) -> None:
    command = [str(npm), *NPM_COMMAND]
    try:
        done = subprocess.run(  # noqa: S603 - npm, with a lock of ours
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolsInstallError(f"`npm ci` in {folder} was not done after {_SECONDS:.0f} s.") from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-_SAID_LINES:])
        raise ToolsInstallError(
            f"`npm ci` in {folder} failed with exit code {done.returncode}:\n{said}",
            hint="Is the npm registry that npm is configured for within reach? `npm config get registry` names it.",
        )


def _shipped() -> Iterator[Path]:
    for name in _FILES:
        file = Path(__file__).parent / name
        if not file.is_file():
            raise ServiceMissingError(f"this installation has no {file.name}", hint="Install pratique again.")
        yield file


def _lock_digest() -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in _shipped())).hexdigest()
