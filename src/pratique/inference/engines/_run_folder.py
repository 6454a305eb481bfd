"""The folder of one life of an engine: its sockets and temporary files, removed at its end or by the next start."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["RunFolder", "environment", "make_run_folder"]

_PREFIX: Final = "pratique-engine-"


class RunFolder:
    """Names the folder to the engine's process, inside the configuration that vLLM hands to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def compute_hash(self) -> str:
        """Nothing that is compiled depends on the folder: vLLM may keep its caches across starts."""
        return "pratique"

    @property
    def reports(self) -> Path:
        """The datagram socket that the model server reads."""
        return self.path / "reports"


def make_run_folder() -> Path:
    """Make a folder of this process, and remove those of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a process that is started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
