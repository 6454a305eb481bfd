"""How the processes of an engine are kept: they end with the server, and their imports take less time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import popen_forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from pratique.core.procfs import descendants, is_alive, list_processes

__all__ = [
    "EngineContext",
    "EngineProcess",
    "cpu_seconds",
    "die_with_parent",
    "faster_imports",
    "go_first_when_memory_is_short",
]

_PR_SET_PDEATHSIG = 1
_FIRST_TO_GO = 800
"""Of 1000."""


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process `parent`, ends; or end now if it just has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def go_first_when_memory_is_short() -> None:
    """Have the kernel end this process, an engine, before the server: an engine can be replaced in seconds.

    Raising one's own score needs no privilege (proc_pid_oom_score_adj(5)). Where it cannot be written, the kernel
    takes the largest process, which mostly is the engine too.
    """
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(str(_FIRST_TO_GO))


def faster_imports(load: Callable[[], object]) -> None:
    """Run `load` without the cyclic garbage collector, which takes a quarter of the time of importing vLLM.

    What was imported stays for good and is exempted from later collections, which keeps forked pages shared.
    """
    gc.disable()
    try:
        load()
        gc.freeze()
    finally:
        gc.enable()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, its ended children's excepted; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - read ten times a second, as procfs does
            text = file.read()
    except OSError:
        return 0.0
    # The name stands in parentheses and may hold anything, parentheses too.
    fields = text[text.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Popen(popen_forkserver.Popen):
    """Reads the exit code once: of two threads that ask at the same time the second would find an empty pipe."""

    def __init__(self, process: Any) -> None:  # noqa: ANN401 - typeshed has no type for it
        self._lock = threading.Lock()
        super().__init__(process)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        with self._lock:
            return super().poll(flag)


class EngineProcess(ForkServerProcess):
    """A process forked from the fork server."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: ANN401, N802 - multiprocessing's own name; typeshed is too narrow
        return _Popen(process_obj)


class EngineContext(ForkServerContext):
    """Makes the processes of one life of an engine, and ends them, whatever they do."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[EngineProcess] = []
        self._is_closed = False

    def Process(self, *arguments: Any, **options: Any) -> EngineProcess:  # type: ignore[override]  # noqa: ANN401, N802 - see above
        if self._is_closed:
            raise RuntimeError("This engine was ended while it was being started.")
        process = EngineProcess(*arguments, **options)
        self.processes.append(process)
        return process

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes if process.pid is not None]

    @property
    def exit_code(self) -> int | None:
        """Of the first process; minus the signal that ended it. None while it runs, or where there is none."""
        started = [process for process in self.processes if process.pid is not None]
        return started[0].exitcode if started else None

    def kill(self) -> None:
        """Let none begin any more, and kill those that run and all their descendants; a stopped one too."""
        self._is_closed = True
        entries = list_processes()
        roots = [pid for process in self.processes if (pid := process.pid) and process.exitcode is None]
        for pid in {*roots, *(child for root in roots for child in descendants(entries, root))}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def is_running(self) -> bool:
        """Whether one of the processes still lives."""
        return any(process.exitcode is None and is_alive(process.pid) for process in self.processes if process.pid)
