"""How a stack is shown."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pratique.cli._stack_view import Lines, Screen, describe_service, make_view, render_ready, render_status
from pratique.fleet.stack.status import ServiceStatus, StackState, StackStatus

pytestmark = pytest.mark.unit


def service(name: str = "inference-0", state: str = "starting", **fields: Any) -> ServiceStatus:
    made: dict[str, Any] = {
        "name": name,
        "kind": "k",
        "state": state,
        "ready": state == "ready",
        "address": "http://h:1",
    }
    return ServiceStatus(**{**made, **fields})


def status(*services: ServiceStatus, state: StackState = StackState.STARTING, uptime: float = 1.5) -> StackStatus:
    return StackStatus(
        state=state, state_dir="/state", url="http://127.0.0.1:8080", uptime_seconds=uptime, services=services
    )


def text(shown: StackStatus) -> str:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as captured:
        console.print(render_status(shown))
    return captured.get()


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (service(detail="loading weights", progress=0.4, eta_seconds=3.2), "loading weights 40 % (about 3 s left)"),
        (service(state="ready", progress=1.0), ""),
        (service(), "starting"),
        (
            service(
                state="backing_off", detail="exited with code 1; starts again", restart_in_seconds=0.84, failures=3
            ),
            "exited with code 1; starts again in 0.8 s (3 failures in a row)",
        ),
    ],
)
def test_service_says_why_it_takes_time(shown: ServiceStatus, words: str) -> None:
    assert describe_service(shown) == words


def test_table_has_a_line_for_each_service_and_the_last_words_of_a_failing_one() -> None:
    found = text(
        status(
            service(lifecycle="model_loaded", detail="warming up", pid=7, restarts=2, since_seconds=75.0),
            service("edge", "backing_off", last_log="cannot bind", since_seconds=4000),
            uptime=130,
        )
    )
    assert "pratique starting  http://127.0.0.1:8080  up 2 min 10 s" in found
    for words in ("model_loaded", "75.0 s", "warming up", "cannot bind", "1 h 06 min", "http://h:1"):
        assert words in found
    assert "memory" not in found


def test_progress_is_a_bar() -> None:
    found = text(status(service("model", detail="converting", progress=0.5), service("b", "ready", progress=1.0)))
    assert found.count("━") == 16
    assert "converting 50 %" in found


def test_memory_is_shown_where_it_was_measured() -> None:
    assert "123 MB" in text(status(service(memory_bytes=123_000_000), service("edge")))


def test_ready_names_address_state_folder_and_how_to_stop() -> None:
    shown = status(service("a", "ready"), service("b"), state=StackState.READY)
    here, there = render_ready(shown, detached=False), render_ready(shown, detached=True)
    assert here[1:] == [
        "Ready after 1.5 s: http://127.0.0.1:8080",
        "State and logs: /state",
        "Still starting: b. `pratique status` shows how far.",
        "Stop: Ctrl-C, or `pratique down`",
    ]
    assert there[-1] == "Stop: pratique down --state-dir /state"
    assert len(render_ready(status(service("a", "ready")), detached=True)) == 4


def test_lines_come_only_where_something_changed() -> None:
    out = io.StringIO()
    with Lines(out, detached=True) as view:
        for progress in (0.41, 0.42, 0.45, 0.51):
            view.show(status(service(detail="loading weights", progress=progress)))
        for _ in range(2):
            view.show(status(service(state="ready", lifecycle="traffic_ready"), state=StackState.READY))
    lines = out.getvalue().splitlines()
    assert [line.split()[-1] for line in lines[:3]] == ["%", "%", "traffic_ready"]
    assert sum("Ready after" in line for line in lines) == 1


def test_terminal_gets_a_screen_and_everything_else_lines() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=160)
    view = make_view(terminal, detached=False)
    assert isinstance(view, Screen)
    with view:
        view.show(status(service()))
        view.show(status(service(state="ready"), state=StackState.READY))
    assert "Ctrl-C" in terminal.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert isinstance(make_view(Console(file=io.StringIO()), detached=False), Lines)
