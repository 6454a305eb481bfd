"""The folder of one run of an engine: its sockets and temporary files, removed at the end or by the next start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["environment", "make_run_folder", "phases_from"]

_PREFIX: Final = "pratique-engine-"
_PHASE_BYTES: Final = 256


def make_run_folder() -> Path:
    """Make the folder of this process, and remove those of processes that were killed."""
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


@contextlib.contextmanager
def phases_from(path: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Pass on what a loading engine says of itself by datagrams to `path` (`_preload.report_phases`)."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.setblocking(False)
        loop.add_reader(receiver, lambda: report(receiver.recv(_PHASE_BYTES).decode(errors="replace")))
        try:
            yield
        finally:
            loop.remove_reader(receiver)
