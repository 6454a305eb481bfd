"""The templates: what they promise, that the project uses them itself, and that none replaces a file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.services import wiremock
from pratique.testkit.services.catalogue import make_services
from pratique.testkit.services.choice import read_url
from pratique.testkit.templates.copying import TEMPLATES, Found, copy_templates

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[4]
SHIPPED = ROOT / "src" / "pratique" / "testkit" / "templates"
COMPOSE = ROOT / "compose.test.yaml"
WORKFLOWS = [ROOT / ".github" / "workflows" / "test.yml", SHIPPED / "test.yml"]
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
INSTALL = re.compile(r"      - name: Install.*\n        run: .*\n(?:          .*\n)*")
NODE = re.compile(r"      - uses: actions/setup-node@.*\n        with:\n(?:          .*\n)*")
ADVICE = re.compile(r"^#.*\n", re.MULTILINE)


def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]  # type: ignore[no-any-return]


def workflow(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(file)["jobs"].values() for step in job["steps"]]


def test_the_project_uses_what_it_ships() -> None:
    assert COMPOSE.read_bytes() == (SHIPPED / COMPOSE.name).read_bytes()
    # It has a front end to build, a script for installing, and tests of an engine that takes minutes.
    own, shipped = (ADVICE.sub("", NODE.sub("", INSTALL.sub("", file.read_text()))) for file in WORKFLOWS)
    assert own.replace(' -m "not vllm"', "") == shipped


def test_every_service_is_checked_for_health_and_reached_from_this_machine_only() -> None:
    for name, service in services().items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["healthcheck"]["retries"] >= 30, name
        assert service["ports"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_images_have_a_version_and_are_those_that_the_services_start() -> None:
    source = "".join(file.read_text() for file in (ROOT / "src/pratique/testkit").rglob("*.py"))
    for name, service in services().items():
        image = service["image"]
        assert re.search(r":\d[\w.]*$", image), name
        assert f'"{image}"' in source, name


def test_wiremock_has_the_options_that_its_scripts_count_on() -> None:
    assert services()["wiremock"]["command"] == list(wiremock._OPTIONS)


@pytest.mark.parametrize("file", WORKFLOWS, ids=["own", "shipped"])
def test_actions_are_pinned_and_leave_no_credentials(file: Path) -> None:
    used = [step for step in steps(file) if "uses" in step]
    assert used
    for step in used:
        assert PINNED.fullmatch(step["uses"]), step
        if step["uses"].startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("file", WORKFLOWS, ids=["own", "shipped"])
def test_the_workflow_may_do_nothing_but_read_and_ends_by_itself(file: Path) -> None:
    whole = workflow(file)
    assert whole["permissions"] == {}
    assert "concurrency" in whole
    assert "secrets." not in file.read_text()
    for job in whole["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        assert 0 < job["timeout-minutes"] <= 30


@pytest.mark.parametrize("file", WORKFLOWS, ids=["own", "shipped"])
def test_services_are_healthy_before_the_tests_and_torn_down_whatever_happens(file: Path) -> None:
    jobs = workflow(file)["jobs"]
    assert jobs["integration"]["needs"] == "unit"
    runs = [step.get("run", "") for step in jobs["integration"]["steps"]]
    up = next(number for number, run in enumerate(runs) if " up " in run)
    tests = next(number for number, run in enumerate(runs) if "pytest" in run)
    assert "--wait" in runs[up]
    assert up < tests
    assert jobs["integration"]["steps"][-1]["if"] == "always()"
    assert " down " in runs[-1]


@pytest.mark.parametrize("file", WORKFLOWS, ids=["own", "shipped"])
def test_variables_name_services_and_lead_to_ports_that_are_open(file: Path) -> None:
    known = {f"PRATIQUE_TEST_{name.upper()}" for name in make_services()}
    given = workflow(file)["jobs"]["integration"]["env"]
    assert given.keys() <= known
    services_of = make_services()
    for variable, url in given.items():
        name = variable.removeprefix("PRATIQUE_TEST_").lower()
        read_url(name, services_of[name].providers, url)  # says what is wrong with it
    published = {port.rpartition(":")[0] for service in services().values() for port in service["ports"]}
    assert {url.partition("://")[2] for url in given.values()} == published


def test_the_shipped_workflow_installs_a_project_only_where_there_is_one(tmp_path: Path) -> None:
    (install, again) = (step["run"] for step in steps(WORKFLOWS[1]) if step.get("name") == "Install")
    assert install == again
    # Said instead of done: no index is asked here.
    python = tmp_path / ".venv" / "bin" / "python"
    script = re.sub(r"^python -m venv .venv$", "", install, flags=re.MULTILINE)
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)

    def run() -> list[str]:
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]  # as the runner does
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines()

    kit = "-m pip install pratique[testkit,testkit-opensearch]"
    assert run() == [kit]
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    assert run() == [kit]
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "quota"\n')
    (tmp_path / "requirements.txt").touch()
    assert run() == [kit, "-m pip install --editable .", "-m pip install --requirement requirements.txt"]


def test_templates_go_where_they_belong(tmp_path: Path) -> None:
    planned = copy_templates(tmp_path, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert copy_templates(tmp_path) == planned == {tmp_path / place: Found.NOTHING for place in TEMPLATES.values()}
    assert (tmp_path / "compose.test.yaml").read_bytes() == COMPOSE.read_bytes()
    assert set(copy_templates(tmp_path).values()) == {Found.SAME}


@pytest.mark.parametrize("place", TEMPLATES.values())
@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere"])
def test_what_is_there_is_never_replaced_and_the_rest_is_written(tmp_path: Path, place: str, kind: str) -> None:
    there = tmp_path / place
    there.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("ours")
    else:
        there.symlink_to("nowhere")
    found = copy_templates(tmp_path)
    assert found == {tmp_path / each: Found.OTHER if each == place else Found.NOTHING for each in TEMPLATES.values()}
    assert not there.is_file() or there.read_text() == "ours"
    assert all(file.is_file() for file, what in found.items() if what is Found.NOTHING)


def test_what_cannot_be_written_whole_is_not_written(tmp_path: Path) -> None:
    (tmp_path / ".github").touch()
    with pytest.raises(TestkitUsageError, match="cannot be written"):
        copy_templates(tmp_path)
    assert not (tmp_path / "compose.test.yaml").exists()


def test_a_project_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TestkitUsageError, match="Expected a project's folder"):
        copy_templates(tmp_path / "nowhere")
