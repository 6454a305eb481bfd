"""Run the tiers of the test suite one after the other, each against its time budget, and add up what they counted.

The unit tier comes first and ends the run when it fails: nothing above it can be trusted then. Coverage is collected
over all tiers, child processes included, and its gate is `fail_under` in pyproject.toml.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "test-results"


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One pytest run: which marks, how many workers, how long it may take."""

    name: str
    folder: str
    workers: int
    budget_seconds: int
    coverage: bool


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one tier counted."""

    tier: Tier
    passed: int
    failed: int
    skipped: int
    seconds: float


TIERS = (
    Tier(name="unit", folder="tests/unit", workers=2, budget_seconds=30, coverage=True),
    Tier(name="integration", folder="tests/integration", workers=2, budget_seconds=300, coverage=True),
    Tier(name="e2e", folder="tests/e2e", workers=0, budget_seconds=570, coverage=False),
)


def run_tier(tier: Tier) -> Result:
    """Run one tier and read its counts from the report that pytest writes."""
    report = RESULTS / f"{tier.name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", tier.folder, "-q"]
    # The stack of the e2e tier is measured by nobody: tracing would slow the very start-ups it waits for.
    command += ["--cov", "--cov-append", "--cov-report="] if tier.coverage else ["--no-cov"]
    command += [f"--junitxml={report}", f"-n{tier.workers}", "--dist=loadgroup", "--durations=5"]
    print(f"\n── {tier.name} tier (budget {tier.budget_seconds} s)", flush=True)
    started = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    seconds = time.monotonic() - started
    if not report.exists():
        return Result(tier=tier, passed=0, failed=1, skipped=0, seconds=seconds)
    return _read(tier, report, code, seconds)


def _read(tier: Tier, report: Path, code: int, seconds: float) -> Result:
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 - written by our own pytest a moment ago
    counts = (
        {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
        if suite is not None
        else {}
    )
    failed = counts.get("failures", 0) + counts.get("errors", 0)
    passed = counts.get("tests", 0) - failed - counts.get("skipped", 0)
    # A run that broke without a failed test (an internal error, nothing collected) has failed all the same.
    return Result(
        tier=tier, passed=passed, failed=failed or int(code != 0), skipped=counts.get("skipped", 0), seconds=seconds
    )


def main() -> int:
    """Run all tiers; return the exit code."""
    RESULTS.mkdir(exist_ok=True)
    for stale in ROOT.glob(".coverage*"):
        stale.unlink()
    results: list[Result] = []
    for tier in TIERS:
        results.append(run_tier(tier))
        if tier.name == "unit" and results[-1].failed:
            break
    covered = subprocess.run([sys.executable, "-m", "coverage", "report", "--format=total"], cwd=ROOT, check=False)
    coverage_failed = covered.returncode != 0 and not os.environ.get("PRATIQUE_NO_COVERAGE_GATE")
    print()
    for result in results:
        over = " OVER BUDGET" if result.seconds > result.tier.budget_seconds else ""
        print(
            f"{result.tier.name:12} {result.passed:5} passed {result.failed:3} failed {result.skipped:3} skipped"
            f"  {result.seconds:6.0f} s of {result.tier.budget_seconds} s{over}"
        )
    totals = [sum(getattr(result, key) for result in results) for key in ("passed", "failed", "skipped")]
    print("{} passed, {} failed, {} skipped".format(*totals))
    return int(totals[1] > 0 or coverage_failed)


if __name__ == "__main__":
    sys.exit(main())
