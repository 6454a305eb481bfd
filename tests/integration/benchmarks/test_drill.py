"""The failure drill, short: a stack of processes is broken for some seconds, judged, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[3]


def drill(folder: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks", "drill", "--folder", str(folder), "--people", "8", *flags]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def left_of(folder: Path) -> list[str]:
    """Command lines of processes that were started in or for the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if str(folder) in words:
                found.append(words)
    return found


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.mark.timeout(150)
def test_short_drill_breaks_things_and_every_invariant_holds(tmp_path: Path) -> None:
    state, report = tmp_path / "state", tmp_path / "report"
    process = drill(state, "--minutes", "0.3", "--seed", "11", "--report", str(report))
    said, errors = process.communicate(timeout=140)
    assert process.returncode == 0, said + errors
    found = report_of(report)
    assert found["holds"] is True
    assert found["turns"]["of them acknowledged"] > 20
    assert len(found["faults"]) >= 2
    assert all(not fault["note"] for fault in found["faults"])
    assert {path.name for path in report.iterdir()} == {"report.json", "report.md", "timeline.svg", "history.jsonl"}
    assert left_of(state) == []


@pytest.mark.timeout(120)
def test_interrupted_drill_still_reports_and_leaves_nothing_behind(tmp_path: Path) -> None:
    state, report = tmp_path / "state", tmp_path / "report"
    process = drill(state, "--minutes", "5", "--seed", "1", "--report", str(report), "--orchestrators", "1")
    assert process.stderr is not None
    for line in process.stderr:
        if " faults in " in line:
            break
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=100)
    assert process.returncode == 0, said + errors
    assert report_of(report)["seconds"] < 60
    assert left_of(state) == []
