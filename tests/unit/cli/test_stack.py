"""`pratique up | down | status | logs` without a stack: parsing, and what is said where none runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from pratique.cli import stack as commands
from pratique.cli.main import app
from pratique.fleet.stack.home import StackDescription, StateHome
from pratique.fleet.stack.logs import last_lines
from pratique.fleet.stack.settings import StackPaths
from pratique.fleet.stack.status import ServiceStatus, StackState, StackStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pratique.fleet.stack.control import ControlClient
    from pratique.fleet.stack.prepare import StackRequest

pytestmark = pytest.mark.unit
runner = CliRunner()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[StackRequest]:
    requests: list[StackRequest] = []
    ready = StackStatus(state=StackState.READY, state_dir="/state", url="http://127.0.0.1:1")

    async def run_here(
        request: StackRequest, environment: Mapping[str, str], show: Callable[[StackStatus], None]
    ) -> None:
        requests.append(request)
        show(ready)

    async def launch(
        request: StackRequest, environment: Mapping[str, str], show: Callable[[StackStatus], None]
    ) -> StackStatus:
        requests.append(request)
        return ready

    monkeypatch.setattr(commands, "run_here", run_here)
    monkeypatch.setattr(commands, "launch", launch)
    return requests


def test_flags_win_over_environment_over_file(
    started: list[StackRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "a.toml"
    config.write_text('[stack]\nport = 1\ninference = 3\nengine = "simulated"\n')
    monkeypatch.setenv("PRATIQUE_STACK_PORT", "2")
    monkeypatch.setenv("PRATIQUE_STACK_ORCHESTRATORS", "4")
    result = runner.invoke(
        app,
        [
            "up",
            "--config",
            str(config),
            "--inference",
            "5",
            "--state-dir",
            str(tmp_path),
            "--model-root",
            "m",
            "--host",
            "h",
        ],
    )
    assert result.exit_code == 0, result.stderr
    settings = started[0].settings
    assert (settings.port, settings.inference, settings.engine, settings.orchestrators) == (2, 5, "simulated", 4)
    assert (settings.host, started[0].config) == ("h", str(config))
    assert started[0].paths.model_root.is_absolute()


def test_without_a_file_the_reference_application_runs(started: list[StackRequest], tmp_path: Path) -> None:
    result = runner.invoke(app, ["up", "--detach", "--state-dir", str(tmp_path)])
    assert result.exit_code == 0, result.stderr
    assert str(started[0].config).endswith("examples/manga-assistant/pratique.toml")
    assert (started[0].settings.port, started[0].settings.engine) == (8080, "vllm")
    assert "Ready after" in result.stderr
    assert started[0].paths.model_root == tmp_path / "models"


@pytest.mark.parametrize(
    "flags", [["--engine", "abacus"], ["--inference", "99"], ["--port", "70000"], ["--config", "/no.toml"]]
)
def test_wrong_values_are_usage_errors(started: list[StackRequest], flags: list[str]) -> None:
    assert runner.invoke(app, ["up", *flags]).exit_code == 2
    assert started == []


def test_nothing_runs(tmp_path: Path) -> None:
    where = ["--state-dir", str(tmp_path / "state")]
    assert runner.invoke(app, ["down", *where]).exit_code == 0
    asked = runner.invoke(app, ["status", *where])
    assert (asked.exit_code, "pratique up" in asked.stderr) == (1, True)
    as_json = runner.invoke(app, ["status", "--json", *where])
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["state"] == "stopped"
    assert runner.invoke(app, ["logs", *where]).exit_code == 0
    unknown = runner.invoke(app, ["logs", "edge", *where])
    assert (unknown.exit_code, "none yet" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(("state", "code"), [(StackState.READY, 0), (StackState.DEGRADED, 1)])
def test_status_is_data_and_its_code_says_whether_people_can_chat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: StackState, code: int
) -> None:
    found = StackStatus(
        state=state,
        state_dir=str(tmp_path),
        services=(ServiceStatus(name="edge", kind="edge", state="ready", ready=True, address="here"),),
    )

    async def load(client: ControlClient) -> StackStatus:
        return found

    monkeypatch.setattr(commands, "load_status", load)
    with StateHome(StackPaths(root=tmp_path, model_root=tmp_path / "models")) as home:
        home.describe(StackDescription(pid=1, url="u", state_dir="s", engine="simulated", started_at=0.0, addresses={}))
        as_json = runner.invoke(app, ["status", "--json", "--state-dir", str(tmp_path)])
        shown = runner.invoke(app, ["status", "--state-dir", str(tmp_path)])
    assert (as_json.exit_code, shown.exit_code) == (code, code)
    assert json.loads(as_json.stdout)["services"][0]["name"] == "edge"
    assert "edge" in shown.stdout


def test_logs_are_shown_for_people_and_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    line: dict[str, Any] = {"timestamp": "2026-01-01T00:00:01.000Z", "event": "ready", "service": "edge"}
    (folder / "edge.log").write_text(json.dumps(line) + "\n")
    where = ["--state-dir", str(tmp_path)]
    assert runner.invoke(app, ["logs", *where]).stdout == "00:00:01.000 edge            ready\n"
    assert json.loads(runner.invoke(app, ["logs", "edge", "--json", *where]).stdout) == line
    monkeypatch.setattr(commands, "follow", lambda files: iter(last_lines(files, 1)))
    assert len(runner.invoke(app, ["logs", "-f", "-n", "1", *where]).stdout.splitlines()) == 2
