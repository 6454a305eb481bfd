"""Runs the conversion of a GGUF file in a process of its own, and tells its progress."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pratique.inference.errors import ArtifactError

__all__ = ["convert_gguf"]

_MODULE: Final = "pratique.inference.artifacts._convert"
_TIMEOUT_SECONDS: Final = 900
_SHOWN_LINES: Final = 12


class _Said(msgspec.Struct, frozen=True):
    phase: str
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)]


def convert_gguf(source: Path, out: Path, progress: Callable[[str, float], None]) -> None:
    """Convert `source` into safetensors, tokenizer and configuration in the folder `out`.

    Raises:
        ArtifactError: it failed or took more than a quarter of an hour; the process's last lines are a note on it.
    """
    command = [sys.executable, "-m", _MODULE, str(os.getpid()), str(source), str(out)]
    log = out / ".log"
    with log.open("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:  # noqa: S603 - our own module
            code = _follow(process, progress)
        errors.seek(0)
        lines = errors.read().splitlines()[-_SHOWN_LINES:]
    log.unlink()
    if code != 0:
        error = ArtifactError(
            f"The conversion of {source} failed with exit code {code}: {lines[-1] if lines else 'it said nothing'}",
            hint="It needs the packages of requirements/engine-cpu.txt, and about 2 GB of memory.",
        )
        error.add_note("\n".join(lines))
        raise error


def _follow(process: subprocess.Popen[str], progress: Callable[[str, float], None]) -> int:
    assert process.stdout is not None  # noqa: S101 - narrows the type: it was opened as a pipe
    # A pipe has no time-out of its own; its end, when the process is killed, ends the loop below.
    watchdog = threading.Timer(_TIMEOUT_SECONDS, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        for line in process.stdout:
            try:
                said = msgspec.json.decode(line, type=_Said)
            except msgspec.DecodeError:
                continue  # a library's own words
            progress(said.phase, said.progress)
        return process.wait(_TIMEOUT_SECONDS)
    except BaseException:
        process.kill()
        raise
    finally:
        watchdog.cancel()
