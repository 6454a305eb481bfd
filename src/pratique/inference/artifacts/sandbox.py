"""Runs a conversion in a sandboxed process, follows it, and says what of the sandbox this system enforces.

The process gets an empty environment, no standard input, the files that are named, two folders to write to, limits, a
deadline. What it says is read with bounds; what it wrote is checked by whoever takes it, as any foreign file is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import msgspec

from pratique.inference.artifacts._confine import Bounds
from pratique.inference.artifacts._files import printable
from pratique.inference.artifacts._protocol import NOT_SANDBOXED, Said, Task
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

__all__ = ["Conversion", "SandboxReport", "convert"]

_MODULE: Final = "pratique.inference.artifacts._sandboxed"
_TIMEOUT_SECONDS: Final = 900
_SHOWN_LINES: Final = 12
_SHOWN_BYTES: Final = 1 << 16
_MAX_LINE_BYTES: Final = 1 << 16
_BASE_BYTES: Final = 6 << 30
"""Address space that Python, torch and transformers map before they read anything; most of it is never used."""
_SYSTEM: Final = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime"),
    *("/proc", "/sys/devices/system", "/dev/zero", "/dev/urandom"),
)


@dataclass(frozen=True, kw_only=True)
class SandboxReport:
    """What of the sandbox was enforced."""

    enforced: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """By measure, why it could not be had here."""

    def __str__(self) -> str:
        """Return it in one line."""
        missing = "; ".join(f"{measure} ({reason})" for measure, reason in self.missing.items())
        return f"enforced: {', '.join(self.enforced) or 'nothing'}; not enforced: {missing or 'nothing'}"


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """One conversion: what, from where, to where, within which bounds."""

    kind: str
    """gguf, model or adapter: the last two are pickles."""
    sources: tuple[Path, ...]
    out: Path
    scratch: Path
    memory_factor: int
    """Memory for each byte of the sources, above what the libraries take."""
    must_be_sandboxed: bool
    wants_licence: bool = False

    def task(self) -> Task:
        """Return what the sandboxed process is told."""
        size = sum(path.stat().st_size for path in self.sources)
        own = (sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry), str(Path(__file__).parents[3]))
        bounds = Bounds(
            readable=(
                *_SYSTEM,
                *own,
                *(str(place) for path in self.sources for place in (path.parent, path.resolve())),
            ),
            writable=("/dev/null", str(self.out), str(self.scratch)),
            memory_bytes=_BASE_BYTES + self.memory_factor * size,
            file_bytes=self.memory_factor * size + (1 << 28),
            cpu_seconds=_TIMEOUT_SECONDS,
        )
        return Task(
            kind=self.kind,
            sources=tuple(str(path) for path in self.sources),
            out=str(self.out),
            bounds=bounds,
            parent=os.getpid(),
            must_have=("network", "limits", "privileges") if self.must_be_sandboxed else (),
            wants_licence=self.wants_licence,
        )


@dataclass
class _Heard:
    sandbox: SandboxReport | None = None
    licence: str = ""
    unsafe: str = ""
    failed: str = ""


def convert(
    conversion: Conversion, progress: Callable[[str, float], None], shut_in: Callable[[SandboxReport], None]
) -> str:
    """Run it; return the licence that the source states, "" where it does not. `shut_in` hears what is enforced.

    Raises:
        UnsafeWeightsError: a file would run code. ArtifactError: the sandbox, the conversion or its deadline failed;
            the process's last lines are a note on it.
    """
    command = [sys.executable, "-I", "-X", "utf8", "-m", _MODULE, msgspec.json.encode(conversion.task()).decode()]
    scratch = str(conversion.scratch)
    environment = {"HOME": scratch, "TMPDIR": scratch, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": ""}
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            cwd=scratch,
            start_new_session=True,
        ) as process:
            heard = _Heard()
            code = _follow(process, lambda said: _hear(said, heard, progress, shut_in))
        if code != 0:
            raise _failure(conversion, code, heard, _last_lines(errors))
    return heard.licence


def _follow(process: subprocess.Popen[bytes], hear: Callable[[Said], None]) -> int:
    assert process.stdout is not None  # noqa: S101 - narrows the type: it was opened as a pipe
    # A pipe has no time-out of its own; its end, when the process is killed, ends the loop below.
    watchdog = threading.Timer(_TIMEOUT_SECONDS, _kill, [process])
    watchdog.daemon = True
    watchdog.start()
    try:
        while line := process.stdout.readline(_MAX_LINE_BYTES):
            try:
                said = msgspec.json.decode(line, type=Said)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # a library's own words
            hear(said)
        # Not reaped yet: its number is still its own when the rest of its session is ended.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    finally:
        _kill(process)
        watchdog.cancel()
    return process.wait()


def _hear(
    said: Said, heard: _Heard, progress: Callable[[str, float], None], shut_in: Callable[[SandboxReport], None]
) -> None:
    if said.sandbox is not None and heard.sandbox is None:
        heard.sandbox = SandboxReport(
            enforced=tuple(measure for measure, reason in said.sandbox.items() if not reason),
            missing={measure: reason for measure, reason in said.sandbox.items() if reason},
        )
        shut_in(heard.sandbox)
    heard.licence = heard.licence or said.licence
    heard.unsafe = heard.unsafe or said.unsafe
    heard.failed = heard.failed or said.failed
    if said.phase:
        progress(printable(said.phase[:200]), min(max(said.progress, 0.0), 1.0))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what may still run of it. Its process namespace ends with it; where there is none, its session must."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _last_lines(errors: IO[bytes]) -> list[str]:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _SHOWN_BYTES))
    text = errors.read().decode(errors="replace")
    return [printable(line) for line in text.splitlines()[-_SHOWN_LINES:]]


def _failure(conversion: Conversion, code: int, heard: _Heard, lines: list[str]) -> ArtifactError | UnsafeWeightsError:
    source = conversion.sources[0].resolve()
    if code == NOT_SANDBOXED and not (heard.unsafe or heard.failed):
        return ArtifactError(
            f"{source} holds pickles, and the process that reads them cannot be shut in here: {heard.sandbox}.",
            hint="Import it where user namespaces are allowed, or trust it with all of this: --unsafe-without-sandbox.",
        )
    if heard.unsafe:
        return UnsafeWeightsError(
            f"In {source.parent}: {printable(heard.unsafe[:1000])}",
            hint="Do not use this file: weights need no code. Get them as safetensors from whoever made them.",
        )
    said = printable(heard.failed[:1000]) or (lines[-1] if lines else "it said nothing")
    error = ArtifactError(
        f"The conversion of {source} failed with exit code {code}: {said}",
        hint="Get the model again, whole, or in another format."
        if heard.failed
        else "It needs the packages of requirements/engine-cpu.txt, and about 2 GB of memory.",
    )
    error.add_note("\n".join(lines))
    error.add_note(f"The sandbox: {heard.sandbox}.")
    return error
