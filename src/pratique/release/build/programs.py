"""Runs external programs: looked up before they are needed, with a deadline, output kept, nothing left running.

A program writes into a file, not a pipe: what it says is there after a crash, and no reader can be too slow for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pratique.release.errors import ToolFailedError, ToolMissingError

__all__ = ["MAX_OUTPUT_BYTES", "Program", "require_programs", "run"]

MAX_OUTPUT_BYTES: Final = 64 * 1024 * 1024
_TAIL_BYTES: Final = 4096
_TAIL_LINES: Final = 15
_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """A program of this machine, and where it comes from."""

    name: str
    package: str
    """Debian's, as it stands behind `apt-get install`; empty where a wheel brings it."""
    wheel: str = ""
    """The Python package that brings it into the environment's own folder of programs."""

    def find(self) -> str:
        """Return where it is.

        Raises:
            ToolMissingError: it is neither on the path nor in this Python's environment.
        """
        own = Path(sys.prefix, "bin") if self.wheel else None
        found = (own and shutil.which(self.name, path=str(own))) or shutil.which(self.name)
        if found is None:
            how = f"pip install {self.wheel}" if self.wheel else f"On Debian: apt-get install {self.package}"
            raise ToolMissingError(f"the program '{self.name}' is needed, and is not on the path", hint=how)
        return found


def require_programs(*programs: Program) -> None:
    """Look up programs before the work begins.

    Raises:
        ToolMissingError: the first that is missing.
    """
    for program in programs:
        program.find()


def run(
    program: Program,
    arguments: Sequence[str],
    *,
    timeout_seconds: float,
    log: Path | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run a program to its end and return its standard output, at most MAX_OUTPUT_BYTES of it.

    With `log`, standard error (and output, which is returned too) is appended there.

    Raises:
        ToolMissingError: it is not installed.
        ToolFailedError: it ended with an error, or was ended at the deadline; the end of what it said is told.
    """
    command = [program.find(), *arguments]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - found on the path; the arguments are a list, no shell reads them
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=cwd,
            env=None if environment is None else {**os.environ, **environment},
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        said, complained = _read(output), _read(errors)
        if log is not None:
            with log.open("ab") as file:
                file.write(f"$ {program.name} {' '.join(arguments)}\n".encode(errors="replace") + said + complained)
    if code != 0:
        ending = f"did not end within {timeout_seconds:g} s" if code is None else f"ended with code {code}"
        where = f"; all of it is in {log}" if log else ""
        raise ToolFailedError(f"{program.name} {ending}{where}:\n{_tail(complained or said)}")
    return said


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever the program left behind: it leads a session, and so a process group, of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def _read(file: object) -> bytes:
    file.seek(0)  # type: ignore[attr-defined]  # TemporaryFile's type has no public name
    content: bytes = file.read(MAX_OUTPUT_BYTES)  # type: ignore[attr-defined]  # the same
    return content


def _tail(output: bytes) -> str:
    lines = output[-_TAIL_BYTES:].decode("utf-8", "replace").rstrip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (it said nothing)"
