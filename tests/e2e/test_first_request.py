"""After "ready" the first request is as fast as the tenth: held on the real engine, over several fresh servers.

The measuring is the benchmark's own; it takes more servers before it says no. This tier runs one test at a time, so
that nothing of ours disturbs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pratique.inference.artifacts.store import import_small_model

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.e2e, pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_first_request_after_ready_is_as_fast_as_the_tenth(tmp_path: Path) -> None:
    model_root, result = ROOT / ".cache" / "models", tmp_path / "result.json"
    import_small_model(model_root, lambda phase, share: None)
    command = [sys.executable, "-m", "benchmarks", "first_request", "--servers", "3", "--most-servers", "9"]
    command += ["--model-root", str(model_root), "--json", str(result)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=590, check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    shapes = json.loads(result.read_text())["shapes"]
    assert {shape: row["ratio"] <= 1.1 for shape, row in shapes.items()} == {
        "short": True,
        "medium": True,
        "long": True,
    }
