"""One server that the host runs: started, watched, ended with all it started. A process here, a container beside.

Its port is reserved for its whole life, restarts included (`pratique.testkit.ports`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

from pratique.core import procfs
from pratique.testkit.errors import ServiceStartError
from pratique.testkit.host.launch import ProcessLaunch, Running
from pratique.testkit.host.logs import read_tail
from pratique.testkit.host.probes import is_ready, listens
from pratique.testkit.host.remains import die_with_parent
from pratique.testkit.ports import LOOPBACK, reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ProcessServer", "Server"]

_ASK_EVERY_SECONDS: Final = 0.01
_KILL_SECONDS: Final = 5.0
_ATTEMPTS: Final = 3
_PORT_TAKEN: Final = re.compile(r"EADDRINUSE|[Aa]ddress (?:already )?in use|port is already in use|port is taken")


class Server(Protocol):
    """What the host can do with a server, whatever it runs in."""

    key: str

    async def start(self) -> Running:
        """Return when it is ready. Raises ServiceStartError where it is not within its time."""

    async def stop(self) -> None: ...

    def abandon(self) -> None:
        """End it at once, without a loop to wait in: pytest is gone."""

    def is_alive(self) -> bool: ...

    async def act(self, action: str) -> Running | None:
        """Pause, resume, kill or restart it."""

    def tail(self, lines: int) -> str: ...


class ProcessServer:
    """A native process in a session of its own. Make and start it in the host's main thread.

    The kernel ties a parent-death signal to the thread that started the process, not to its process.
    """

    def __init__(self, key: str, launch: ProcessLaunch, *, folder: Path, environment: Mapping[str, str]) -> None:
        self.key = key
        self._launch = launch
        self._folder = folder
        self._environment = environment
        self._log = folder / "server.log"
        self._holder: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_port_taken = False

    @property
    def port(self) -> int:
        assert self._holder is not None  # noqa: S101 - asked only once it was started
        port: int = self._holder.getsockname()[1]
        return port

    @property
    def pid(self) -> int:
        """The process whose exit code is taken here, 0 where there is none."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> Running:
        """Start it, or start it again: on the same port, since tests know it."""
        if not self._launch.command:
            raise ServiceStartError(f"{self.key} could not be started: its command is empty.")
        await self._end(grace_seconds=0)
        is_known = self._holder is not None
        failed = ""
        for _ in range(_ATTEMPTS):
            self._holder = self._holder or reserve_port()
            began = time.monotonic()
            self._spawn()
            if await self._becomes_ready(began + self._launch.start_seconds):
                return self._running(time.monotonic() - began)
            failed = self._describe_failure(began)
            await self._end()
            if not is_known:
                self._release_port()
            if not _PORT_TAKEN.search(failed):
                break
        raise ServiceStartError(failed, hint=f"The command was: {' '.join(self._launch.command)}")

    async def stop(self) -> None:
        await self._end()
        self._release_port()

    def abandon(self) -> None:
        """Do nothing: the host kills all its descendants."""

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def act(self, action: str) -> Running | None:
        match action:
            case "pause" | "resume" if not self.is_alive():
                raise ServiceStartError(f"{self.key} does not run: expected a running server to {action}.")
            case "pause":
                self._signal(signal.SIGSTOP)
            case "resume":
                self._signal(signal.SIGCONT)
            case "kill":
                await self._end(grace_seconds=0)
            case "restart":
                return await self.start()
            case _:
                raise ServiceStartError(f"Expected the action pause, resume, kill or restart; got '{action}'.")
        return None

    def tail(self, lines: int) -> str:
        return read_tail(self._log, lines)

    def _spawn(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write_files()
            with self._log.open("ab") as log:
                self._process = self._popen(log)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._release_port()
            raise ServiceStartError(
                f"{self.key} could not be started: {error}.", hint=f"The command was: {' '.join(self._launch.command)}"
            ) from error

    def _write_files(self) -> None:
        for name, text in self._launch.files.items():
            file = self._folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._fill([text])[0], encoding="utf-8")

    def _popen(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        added = dict(zip(self._launch.environment, self._fill(self._launch.environment.values()), strict=True))
        return subprocess.Popen(  # noqa: S603 - what the run's own services ask for
            self._fill(self._launch.command),
            env={**self._environment, **added},
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # Once there is a container, threads ask its engine, and one may hold a lock when this process forks. What
            # runs before the exec takes none of Python's or the C library's beyond those that both make anew after a
            # fork: two system calls through functions that were looked up before. That is how it is, not a promise.
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - see above
        )

    def _fill(self, texts: Iterable[str]) -> list[str]:
        port, folder = str(self.port), str(self._folder)
        return [text.replace("{port}", port).replace("{folder}", folder) for text in texts]

    async def _becomes_ready(self, deadline: float) -> bool:
        self._is_port_taken = False
        while self.is_alive() and time.monotonic() < deadline:
            if await is_ready(LOOPBACK, self.port, self._launch.ready):
                # A server may leave its parent; all that it starts stay descendants of this process.
                if listens(self.port, procfs.descendants(procfs.list_processes(), os.getpid())):
                    return True
                self._is_port_taken = self.is_alive()
                return False
            await asyncio.sleep(_ASK_EVERY_SECONDS)
        return False

    def _describe_failure(self, began: float) -> str:
        if self._is_port_taken:
            return f"{self.key} cannot listen: its port is taken, another program answers at {LOOPBACK}:{self.port}."
        code = self._process.poll() if self._process else None
        if code is None:
            what = f"was not ready after {time.monotonic() - began:.1f} s"
        else:
            what = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
        tail = self.tail(15)
        return f"{self.key} {what}." + (f" Its last log lines:\n{tail}\n" if tail else " It logged nothing.")

    def _pids(self) -> set[int]:
        return {self.pid} | procfs.descendants(procfs.list_processes(), self.pid) if self.pid else set()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _end(self, *, grace_seconds: float | None = None) -> None:
        process, grace = self._process, self._launch.stop_seconds if grace_seconds is None else grace_seconds
        if process is None:
            return
        pids = self._pids()
        self._signal(signal.SIGCONT)
        deadline = time.monotonic() + grace
        if grace:
            self._signal(signal.SIGTERM)
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(_ASK_EVERY_SECONDS)
        # What it started may have left its session: the processes seen before, and whatever shares the session now.
        procfs.kill_until_gone(
            lambda entries: {entry.pid for entry in entries if entry.pid in pids or entry.session == process.pid},
            within_seconds=_KILL_SECONDS,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)
        self._process = None

    def _release_port(self) -> None:
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def _running(self, start_seconds: float) -> Running:
        assert self._process is not None  # noqa: S101 - it is ready
        return Running(
            key=self.key,
            host=LOOPBACK,
            port=self.port,
            pid=self._process.pid,
            folder=str(self._folder),
            log=str(self._log),
            start_seconds=start_seconds,
        )
