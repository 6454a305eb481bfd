"""The shipped workflow's commands, run in the tutorial's project, on the services of this machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "testkit" / "tutorial.md"
WORKFLOW = ROOT / "src" / "pratique" / "testkit" / "templates" / "test.yml"
FILES = re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
PYTHON = ".venv/bin/python"


def commands() -> list[list[str]]:
    """Return what the workflow runs pytest with, job by job."""
    jobs = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"].values()
    runs = [step.get("run", "") for job in jobs for step in job["steps"]]
    return [shlex.split(run) for run in runs if "pytest" in run]


def run(project: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    foreign = ("PYTEST_", "AWS_", "PRATIQUE_TEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    words = [sys.executable if word == PYTHON else word for word in command]
    return subprocess.run(words, cwd=project, env=kept, capture_output=True, text=True, timeout=110, check=False)


def test_its_commands_pass_in_the_tutorials_project_and_run_each_test_once(tmp_path: Path) -> None:
    for name, text in FILES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    ran = [run(tmp_path, command) for command in commands()]
    assert [done.returncode for done in ran] == [0, 0], "".join(done.stdout + done.stderr for done in ran)
    whole = run(tmp_path, [PYTHON, "-m", "pytest", "--collect-only", "-q"])
    counted = [int(count) for done in ran for count in re.findall(r"(\d+) passed, (?=\d+ deselected)", done.stdout)]
    assert len(counted) == 2, "".join(done.stdout for done in ran)
    assert f"{sum(counted)} tests collected" in whole.stdout
