"""Runs a stack: here, under this terminal, or detached in a session of its own.

A detached supervisor reports over a pipe, one JSON object a line: {"event": "ready"} or {"event": "error", "code",
"message", "hint", "exit_code"}. Until then its launcher shows the status that it asks for over the control socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pratique.core.errors import PratiqueError
from pratique.core.events import configure_events
from pratique.fleet.errors import StackFailedError, SupervisorLostError
from pratique.fleet.processes.guard import become_subreaper
from pratique.fleet.stack.control import ControlClient
from pratique.fleet.stack.prepare import StackRequest
from pratique.fleet.stack.status import StackStatus
from pratique.fleet.stack.supervisor import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


__all__ = ["DetachedError", "launch", "load_status", "main", "run_here"]

_SHOW_SECONDS: Final = 0.15
_KEPT_LOG_BYTES: Final = 8 * 2**20


class DetachedError(PratiqueError):
    """An error that a detached supervisor reported, as it was there."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(str(fields.get("message", "unknown")), hint=fields.get("hint"))
        self.code = str(fields.get("code", "internal"))  # type: ignore[misc]  # the reported one is this object's own
        self.exit_code = int(fields.get("exit_code", 3))  # type: ignore[misc]  # as above


async def run_here(
    request: StackRequest, environment: Mapping[str, str], show: Callable[[StackStatus], None] | None = None
) -> None:
    """Run a stack until it is told to stop: by a signal (a second one kills), or over its control socket.

    Raises:
        PratiqueError: it could not start.
    """
    become_subreaper()
    stack = Stack(request, environment, configure_log=_configure_log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stack.stop)
    showing = asyncio.create_task(_keep_showing(stack, show)) if show else None
    try:
        await stack.run()
    finally:
        if showing is not None and show is not None:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
            show(stack.status())


async def launch(
    request: StackRequest, environment: Mapping[str, str], show: Callable[[StackStatus], None]
) -> StackStatus:
    """Start a detached stack; return its status once it is ready. Interrupted, it stops the stack again.

    Raises:
        PratiqueError: it could not start; nothing of it is left.
    """
    read_end, write_end = os.pipe()
    supervisor = subprocess.Popen(  # noqa: ASYNC220, S603 - our own module; returns at once
        [sys.executable, "-P", "-m", "pratique.fleet.stack.run", str(write_end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        pass_fds=(write_end,),
        start_new_session=True,
    )
    os.close(write_end)
    assert supervisor.stdin is not None  # noqa: S101 - asked for above
    with supervisor.stdin:
        supervisor.stdin.write(msgspec.json.encode(request))
    client = ControlClient(request.paths.control)
    showing = asyncio.create_task(_keep_asking(client, show))
    try:
        await _await_report(read_end, request)
    except asyncio.CancelledError:
        supervisor.terminate()
        await asyncio.shield(asyncio.to_thread(supervisor.wait))
        raise
    except PratiqueError:
        await asyncio.to_thread(supervisor.wait)
        raise
    finally:
        showing.cancel()
    supervisor.returncode = 0  # it lives on without us: no warning about a child that was not waited for
    return await load_status(client)


async def load_status(client: ControlClient) -> StackStatus:
    """Return what a running stack says of itself.

    Raises:
        SupervisorLostError: it does not answer, or with something else.
    """
    answer = await client.ask("status")
    try:
        return msgspec.convert(answer["status"], StackStatus)
    except (KeyError, msgspec.ValidationError) as error:
        raise SupervisorLostError(
            f"The supervisor answers what this version does not understand: {error}.",
            hint="Was pratique updated while the stack ran? `pratique down`, then `pratique up`.",
        ) from error


async def _await_report(read_end: int, request: StackRequest) -> None:
    reader = asyncio.StreamReader()
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            # The supervisor keeps the deadline of the start; however it ends, the pipe ends with it.
            line = await reader.readline()
        finally:
            transport.close()
    report = msgspec.json.decode(line, type=dict[str, Any]) if line else {}
    if report.get("event") == "ready":
        return
    if report:
        raise DetachedError(report)
    raise StackFailedError(
        "The supervisor ended before the stack was ready.", hint=f"Its log: {request.paths.log_of('supervisor')}"
    )


async def _keep_showing(stack: Stack, show: Callable[[StackStatus], None]) -> None:
    while True:
        show(stack.status())
        await asyncio.sleep(_SHOW_SECONDS)


async def _keep_asking(client: ControlClient, show: Callable[[StackStatus], None]) -> None:
    while True:
        with contextlib.suppress(SupervisorLostError):
            show(await load_status(client))
        await asyncio.sleep(_SHOW_SECONDS)


def _configure_log(path: Path) -> None:
    if path.exists() and path.stat().st_size > _KEPT_LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    configure_events(service="supervisor", stream=path.open("a", encoding="utf-8", buffering=1))


async def _run_detached(request: StackRequest, report: int) -> int:
    become_subreaper()
    stack = Stack(request, os.environ, configure_log=_configure_log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stack.stop)
    announcing = asyncio.create_task(_announce(stack, report))
    try:
        await stack.run()
    except PratiqueError as error:
        fields = {"code": error.code, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        _report(report, {"event": "error", **fields})
        return error.exit_code
    finally:
        announcing.cancel()
    return 0


async def _announce(stack: Stack, report: int) -> None:
    await stack.became_ready.wait()
    _report(report, {"event": "ready"})


def _report(descriptor: int, fields: dict[str, Any]) -> None:
    # Whoever launched us may be gone by now.
    with contextlib.suppress(OSError):
        os.write(descriptor, msgspec.json.encode(fields) + b"\n")


def main() -> int:
    """Be the detached supervisor: the request comes on standard input, the report's descriptor as an argument."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=StackRequest)
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    try:
        return asyncio.run(_run_detached(request, report))
    except Exception as error:  # the process ends here: its launcher is told why
        _report(report, {"event": "error", "message": f"unexpected {type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    sys.exit(main())
