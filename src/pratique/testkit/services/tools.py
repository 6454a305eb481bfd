"""Where servers that do not come from Python packages are: programs on the path, npm packages in a few folders.

Looks only. `pratique testkit tools --install` fetches what is missing, into the folder that is looked into last.
"""

from __future__ import annotations

import os
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pratique.testkit.errors import ServiceMissingError

__all__ = ["find_npm_file", "find_program", "find_python_package", "tools_folder"]


def tools_folder() -> Path:
    """Return the folder that `pratique testkit tools --install` installs into: PRATIQUE_TESTKIT_TOOLS, or the cache."""
    given = os.environ.get("PRATIQUE_TESTKIT_TOOLS")
    if given:
        return Path(given).absolute()  # servers run in folders of their own
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "pratique" / "testkit-tools"


def find_npm_file(package: str, file: str, *, start: Path | None = None) -> Path:
    """Return a file of an npm package: in `node_modules` here or above, or in the tools folder; of several, the newest.

    Raises:
        ServiceMissingError: it is in none of them.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (*(parent / "node_modules" for parent in (here, *here.parents)), tools_folder() / "node_modules"):
        matches = list((folder / package).glob(file))
        if matches:
            return max(matches, key=_by_version)
    raise ServiceMissingError(
        f"the npm package '{package}' is not installed",
        hint=f"`pratique testkit tools --install`, or `npm install --save-dev {package}`.",
    )


def _by_version(file: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(file))]


def find_program(name: str, *, hint: str) -> Path:
    """Return a program on the path.

    Raises:
        ServiceMissingError: it is not there.
    """
    found = shutil.which(name)
    if found is None:
        raise ServiceMissingError(f"the program '{name}' is not on the path", hint=hint)
    return Path(found)


def find_python_package(name: str, *, extra: str) -> str:
    """Return the version of an installed Python package.

    Raises:
        ServiceMissingError: it is not installed.
    """
    try:
        return version(name)
    except PackageNotFoundError as error:
        raise ServiceMissingError(
            f"the Python package '{name}' is not installed", hint=f'`pip install "pratique[{extra}]"`.'
        ) from error
