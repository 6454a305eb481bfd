"""How a stack is shown: a table that is drawn over itself on a terminal, lines where something changed elsewhere.

Pure: status in, text out. `Screen` and `Lines` hold what was shown before and where it goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pratique.fleet.stack.status import StackState

if TYPE_CHECKING:
    from types import TracebackType

    from pratique.fleet.stack.status import ServiceStatus, StackStatus

__all__ = ["Lines", "Screen", "describe_service", "make_view", "render_ready", "render_status"]

_COLOURS: Final = {
    "ready": "green",
    "starting": "cyan",
    "waiting": "bright_black",
    "unready": "yellow",
    "backing_off": "red",
    "failed": "bold red",
    "stopping": "yellow",
    "stopped": "bright_black",
}
_LAST_LOG_WIDTH: Final = 100
_BAR_WIDTH: Final = 16


def describe_service(service: ServiceStatus) -> str:
    """Return what a service is doing, and why that takes time."""
    parts = [service.detail or ("" if service.ready else service.state)]
    if service.progress is not None and not service.ready:
        parts.append(f"{100 * service.progress:.0f} %")
    if service.eta_seconds and not service.ready:
        parts.append(f"(about {service.eta_seconds:.0f} s left)")
    if service.restart_in_seconds:
        parts.append(f"in {service.restart_in_seconds:.1f} s")
    if service.failures > 1:
        parts.append(f"({service.failures} failures in a row)")
    return " ".join(part for part in parts if part)


def render_status(status: StackStatus) -> RenderableType:
    """Return the table of the services, with a line above that says how the whole is."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    measured = any(service.memory_bytes is not None for service in status.services)
    for heading in ("service", "state", "for", "what", "pid", "restarts", *(["memory"] if measured else []), "address"):
        table.add_column(heading, no_wrap=heading != "what", justify="right" if heading == "for" else "left")
    for service in status.services:
        memory = "" if service.memory_bytes is None else f"{service.memory_bytes / 1e6:.0f} MB"
        table.add_row(
            service.name,
            Text(service.lifecycle or service.state, style=_COLOURS.get(service.state, "")),
            _duration(service.since_seconds),
            _what(service),
            str(service.pid or ""),
            str(service.restarts or ""),
            *([memory] if measured else []),
            service.address,
        )
    head = Text.assemble(
        ("pratique ", "bold"), (status.state.value, "bold"), f"  {status.url}  up {_duration(status.uptime_seconds)}"
    )
    return Group(head, table)


def _what(service: ServiceStatus) -> Text:
    text = Text(describe_service(service))
    if service.progress is not None and not service.ready:
        done = round(min(max(service.progress, 0.0), 1.0) * _BAR_WIDTH)
        text = Text.assemble(("━" * done, "green"), ("━" * (_BAR_WIDTH - done), "bright_black"), " ", text)
    if service.state in {"backing_off", "failed"} and service.last_log:
        text.append(f"\n  {service.last_log[:_LAST_LOG_WIDTH]}", style="dim")
    return text


def render_ready(status: StackStatus, *, detached: bool) -> list[str]:
    """Return the lines that a start ends with."""
    lines = [
        "",
        f"Ready after {status.uptime_seconds:.1f} s: {status.url}",
        f"State and logs: {status.state_dir}",
    ]
    still = [service.name for service in status.services if not service.ready]
    if still:
        lines.append(f"Still starting: {', '.join(still)}. `pratique status` shows how far.")
    how = f"pratique down --state-dir {status.state_dir}" if detached else "Ctrl-C, or `pratique down`"
    return [*lines, f"Stop: {how}"]


def _duration(seconds: float) -> str:
    if seconds < 100:  # noqa: PLR2004 - below this, tenths say something
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class Lines:
    """Plain lines: one where a service entered another state or phase, or is a tenth further."""

    def __init__(self, out: TextIO, *, detached: bool) -> None:
        self._out = out
        self._detached = detached
        self._seen: dict[str, tuple[object, ...]] = {}
        self._announced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def show(self, status: StackStatus) -> None:
        """Print what changed."""
        for service in status.services:
            tenth = None if service.progress is None or service.ready else int(service.progress * 10)
            now = (service.state, service.lifecycle, service.detail, tenth)
            if self._seen.get(service.name) != now:
                self._seen[service.name] = now
                state = service.lifecycle or service.state
                self._print(f"{status.uptime_seconds:6.1f} s  {service.name:15} {state:14} {describe_service(service)}")
        if status.state is StackState.READY and not self._announced:
            self._announced = True
            for line in render_ready(status, detached=self._detached):
                self._print(line)

    def _print(self, line: str) -> None:
        self._out.write(line.rstrip() + "\n")
        self._out.flush()


class Screen:
    """A table on a terminal, drawn over itself."""

    def __init__(self, console: Console, *, detached: bool) -> None:
        self._console = console
        self._detached = detached
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._announced = False

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def show(self, status: StackStatus) -> None:
        """Draw the table again; below it, once it is ready, where to go and how to stop."""
        parts: list[RenderableType] = [render_status(status)]
        if status.state is StackState.READY:
            parts += render_ready(status, detached=self._detached)[2:]
        self._live.update(Group(*parts), refresh=True)


def make_view(console: Console, *, detached: bool) -> Lines | Screen:
    """Return the view that suits where it goes."""
    return Screen(console, detached=detached) if console.is_terminal else Lines(console.file, detached=detached)  # type: ignore[arg-type]  # a text file
