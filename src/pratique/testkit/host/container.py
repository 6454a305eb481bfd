"""A server in a container, by testcontainers.

Its port is published on the loopback address only, the same one for its whole life: a socket of ours keeps it, as for
processes (`pratique.testkit.ports`), and the engine binds beside it.

The engine is not our child, so nothing ends a container for us. Three things do: the host removes it in order;
`abandon` removes it at once when pytest is gone; and should the host itself be killed, the next one finds its label.
A restart is a new container, empty as a restarted process is.

The engine is asked in daemon threads: a request that hangs must not keep the host from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pratique.testkit.errors import ServiceMissingError, ServiceStartError
from pratique.testkit.host.driver import ContainerSpec, Driver
from pratique.testkit.host.engine import list_owned, remove_container, require_engine
from pratique.testkit.host.launch import ContainerLaunch, Running
from pratique.testkit.host.logs import read_tail
from pratique.testkit.host.ownership import find_orphans, started_at, this_process
from pratique.testkit.host.probes import is_ready
from pratique.testkit.ports import LOOPBACK, reserve_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["ContainerServer", "require_engine", "sweep"]

T = TypeVar("T")

_ASK_EVERY_SECONDS: Final = 0.05
_ATTEMPTS: Final = 3
_SPAWN_SECONDS: Final = 30.0
_REMOVE_SECONDS: Final = 8.0
_ABANDON_SECONDS: Final = 1.5
_SWEEP_SECONDS: Final = 5.0
_ACT_SECONDS: Final = 20.0
_DEATH_SECONDS: Final = 2.0
"""Until the end of its log tells of it; podman looks about once a second."""
_TAIL_LINES: Final = 15
_PORT_TAKEN: Final = re.compile(r"port is already allocated|address already in use", re.IGNORECASE)


class ContainerServer:
    """One container after another, on one port."""

    def __init__(
        self, key: str, launch: ContainerLaunch, *, folder: Path, make_driver: Callable[[str], Driver] = Driver
    ) -> None:
        self.key = key
        self._launch = launch
        self._folder = folder
        self._log = folder / "server.log"
        self._make_driver = make_driver
        self._driver: Driver | None = None
        self._name = ""
        self._holder: socket.socket | None = None
        self._spawning: threading.Thread | None = None
        self._following: threading.Thread | None = None
        self._is_ended = False
        """Nothing may be started any more: the host stops it, or is dying."""

    async def start(self) -> Running:
        self._folder.mkdir(parents=True, exist_ok=True)
        launch = self._launch
        driver = await self._prepare()
        await self.remove()  # of what was killed, or is to be restarted
        await self._in_thread(lambda: driver.require_image(launch.image), seconds=launch.start_seconds)
        failed = ""
        for _ in range(_ATTEMPTS):
            began = time.monotonic()
            failed = await self._attempt(driver)
            if not failed:
                return self._running(time.monotonic() - began)
            try:
                await self.remove()
            except ServiceStartError as error:
                failed = f"{failed} {error.message}"  # the first of the two is what went wrong
            self._release_port()
            if not _PORT_TAKEN.search(failed) or self._is_ended:
                break
        raise ServiceStartError(failed, hint=f"The image was: {launch.image}")

    async def stop(self) -> None:
        self._is_ended = True
        try:
            await self.remove()
        finally:
            self._release_port()

    def abandon(self) -> None:
        """Remove it at once, also when it is just being started."""
        self._is_ended = True
        deadline = time.monotonic() + _ABANDON_SECONDS
        spawning = self._spawning
        if spawning is not None:
            spawning.join(_ABANDON_SECONDS / 2)
        if self._driver is not None and self._name:
            try:
                remove_container(self._driver.address, self._name, seconds=max(0.1, deadline - time.monotonic()))
            except OSError as error:
                sys.stderr.write(f"{self.key}: the container {self._name} could not be removed: {error}\n")
        self._release_port()

    async def remove(self) -> None:
        """Remove the container, if there is one."""
        driver, name = self._driver, self._name
        if driver is None or not name:
            return
        spawning = self._spawning
        if spawning is not None:
            await self._in_thread(spawning.join, seconds=_REMOVE_SECONDS)
        try:
            await self._in_thread(
                lambda: remove_container(driver.address, name, seconds=_REMOVE_SECONDS), seconds=_REMOVE_SECONDS
            )
        except OSError as error:
            raise ServiceStartError(f"The container {name} could not be removed: {error}.") from error
        self._name = ""

    def is_alive(self) -> bool:
        return self._following is not None and self._following.is_alive()

    async def act(self, action: str) -> Running | None:
        driver = self._driver
        if driver is None:
            raise ServiceStartError(f"{self.key} was not started.")
        match action:
            case "pause":
                await self._in_thread(driver.pause, seconds=_ACT_SECONDS)
            case "resume":
                await self._in_thread(driver.resume, seconds=_ACT_SECONDS)
            case "kill":
                await self._in_thread(lambda: self._kill(driver), seconds=_ACT_SECONDS)
            case "restart":
                return await self.start()
            case _:
                raise ServiceStartError(f"Expected the action pause, resume, kill or restart; got '{action}'.")
        return None

    def tail(self, lines: int) -> str:
        return read_tail(self._log, lines)

    async def _prepare(self) -> Driver:
        if self._driver is None:
            try:
                address = await self._in_thread(require_engine, seconds=_SWEEP_SECONDS)
            except ServiceMissingError as error:
                raise ServiceStartError(error.message, hint=error.hint) from error
            await self._in_thread(lambda: sweep(address), seconds=2 * _SWEEP_SECONDS)
            self._driver = self._make_driver(address)
        return self._driver

    async def _attempt(self, driver: Driver) -> str:
        """Return "" when it is ready, else what went wrong."""
        self._holder = self._holder or reserve_port()
        self._name = f"pratique-{self.key}-{secrets.token_hex(4)}"
        spec = ContainerSpec(
            name=self._name,
            launch=self._launch,
            host_port=self._holder.getsockname()[1],
            owner=this_process().label(),
        )
        try:
            await self._in_thread(lambda: self._spawn(driver, spec), seconds=_SPAWN_SECONDS)
        except ServiceStartError as error:
            return error.message
        if await self._becomes_ready(spec.host_port):
            return ""
        return await self._in_thread(lambda: self._describe_failure(driver), seconds=_ACT_SECONDS)

    def _spawn(self, driver: Driver, spec: ContainerSpec) -> None:
        self._spawning = threading.current_thread()
        try:
            self._require_wanted()
            driver.start(spec)
            try:
                self._require_wanted()
            except ServiceStartError:
                remove_container(driver.address, spec.name, seconds=_REMOVE_SECONDS)
                raise
            self._following = threading.Thread(target=self._follow, args=(driver,), daemon=True)
            self._following.start()
        finally:
            self._spawning = None

    def _require_wanted(self) -> None:
        if self._is_ended:
            raise ServiceStartError(f"{self.key} was stopped before it was ready.")

    def _kill(self, driver: Driver) -> None:
        driver.kill()
        if self._following is not None:
            self._following.join(_DEATH_SECONDS)

    def _follow(self, driver: Driver) -> None:
        """Write the container's log to ours. It ends with the container, which is how its death is seen."""
        with self._log.open("ab", buffering=0) as log:
            try:
                for chunk in driver.follow():
                    log.write(chunk)
            except ServiceStartError as error:
                log.write(f"[pratique] {error.message}\n".encode())

    async def _becomes_ready(self, port: int) -> bool:
        deadline = time.monotonic() + self._launch.start_seconds
        while self.is_alive() and not self._is_ended and time.monotonic() < deadline:
            if await is_ready(LOOPBACK, port, self._launch.ready):
                return True
            await asyncio.sleep(_ASK_EVERY_SECONDS)
        return False

    def _describe_failure(self, driver: Driver) -> str:
        what = f"was not ready after {self._launch.start_seconds:g} s"
        if self._is_ended:
            what = "was stopped before it was ready"
        elif not self.is_alive():
            what = "ended"
            with contextlib.suppress(ServiceStartError):
                what = f"ended with exit code {driver.exit_code()}"
        tail = self.tail(_TAIL_LINES)
        return f"{self.key} {what}." + (f" Its last log lines:\n{tail}\n" if tail else " It logged nothing.")

    async def _in_thread(self, call: Callable[[], T], *, seconds: float) -> T:
        """Run a blocking call. One that hangs is left behind: its thread ends with the process."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if answer.done():
                return  # nobody waits any more
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type] # T may be None

        def run() -> None:
            result: T | None = None
            failed: BaseException | None = None
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - the thread ends here; whoever waits is told
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, result, failed)

        threading.Thread(target=run, name=f"pratique-{self.key}", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise ServiceStartError(
                f"The container engine did not answer within {seconds:.0f} s.", hint=f"It was asked for {self.key}."
            ) from error

    def _release_port(self) -> None:
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def _running(self, start_seconds: float) -> Running:
        assert self._holder is not None  # noqa: S101 - it is ready
        return Running(
            key=self.key,
            host=LOOPBACK,
            port=self._holder.getsockname()[1],
            pid=0,
            folder=str(self._folder),
            log=str(self._log),
            start_seconds=start_seconds,
        )


def sweep(address: str) -> None:
    """Remove the containers of hosts that were killed. What goes wrong is told in the host's log only."""
    try:
        orphans = find_orphans(list_owned(address, seconds=_SWEEP_SECONDS), this_process(), started_at)
        for container in orphans:
            remove_container(address, container, seconds=_SWEEP_SECONDS)
    except OSError as error:
        sys.stderr.write(f"pid {os.getpid()}: containers of killed runs could not be removed: {error}\n")
