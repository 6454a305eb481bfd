"""The supervisor's end of the guardian: starts it, tells it what to watch, starts it again should it be killed."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import sys
from typing import Final, Self

from pratique.core.events import get_logger

__all__ = ["Guard", "become_subreaper"]

_PR_SET_CHILD_SUBREAPER: Final = 36
_LIBC: Final = ctypes.CDLL(None)
_EXIT_SECONDS: Final = 5.0


def become_subreaper() -> None:
    """Get orphaned grandchildren as children, so that none escapes this process's view. For entry points."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Guard:
    """Owns one guardian process. Use as an async context manager around everything that it guards."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self._sessions: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the guardian. Everything that it watched has to be gone by now."""
        self._stop_watching()
        self._send("done")
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            await asyncio.to_thread(process.wait, _EXIT_SECONDS)

    def watch(self, session: int) -> None:
        """Have the processes of a session killed should the supervisor die."""
        self._sessions.add(session)
        self._send(f"session {session}")

    def forget(self, session: int) -> None:
        """Stop watching a session; its processes are gone, and its number may be given to others."""
        self._sessions.discard(session)
        self._send(f"forget {session}")

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "pratique.fleet.processes.guardian", self.marker],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._start_again)
        for session in self._sessions:
            self._send(f"session {session}")

    def _start_again(self) -> None:
        assert self._process is not None  # noqa: S101 - only called while it is watched
        self._stop_watching()
        get_logger("fleet").warning("guardian_died", code=self._process.wait())
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._start()

    def _stop_watching(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _send(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            # A guardian that was killed a moment ago is started again, and told everything then.
            with contextlib.suppress(OSError):
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
