"""Run the tiers of the test suite one after the other, each against its time budget, and add up what they counted.

The unit tier comes first and ends the run when it fails: nothing above it can be trusted then.

With CI=true (or by `make coverage`, which leaves the e2e tier out) the unit and integration tiers are traced, child
processes included, and coverage is gated by `fail_under` in pyproject.toml. Tracing doubles their time, so that
elsewhere the tiers run without it, against their budgets.
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
    folders: tuple[str, ...]
    workers: int
    budget_seconds: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one tier counted."""

    tier: Tier
    passed: int
    failed: int
    skipped: int
    seconds: float


TIERS = (
    Tier(name="unit", folders=("tests/unit",), workers=2, budget_seconds=30),
    Tier(name="integration", folders=("tests/integration", "examples/testkit"), workers=2, budget_seconds=300),
    Tier(name="e2e", folders=("tests/e2e",), workers=0, budget_seconds=570),
)


def run_tier(tier: Tier, *, is_traced: bool) -> Result:
    """Run one tier and read its counts from the report that pytest writes."""
    report = RESULTS / f"{tier.name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *tier.folders, "-q"]
    # One tier alone does not reach the gate, which is for all of them: `_report_coverage` holds it.
    command += ["--cov", "--cov-append", "--cov-report=", "--cov-fail-under=0"] if is_traced else ["--no-cov"]
    # By file: what a file's tests share (a stack, an engine) is started by one worker and once.
    command += [f"--junitxml={report}", f"-n{tier.workers}", "--dist=loadfile", "--durations=5"]
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


def main(arguments: list[str]) -> int:
    """Run all tiers, or those below e2e with `--coverage`; return the exit code."""
    only_coverage = "--coverage" in arguments
    is_traced = only_coverage or bool(os.environ.get("CI"))
    RESULTS.mkdir(exist_ok=True)
    for stale in ROOT.glob(".coverage*"):
        stale.unlink()
    results: list[Result] = []
    for tier in TIERS[:-1] if only_coverage else TIERS:
        # The stack of the e2e tier is never traced: that would slow the very start-ups it waits for.
        results.append(run_tier(tier, is_traced=is_traced and tier.name != "e2e"))
        if tier.name == "unit" and results[-1].failed:
            break
    has_coverage = not is_traced or _report_coverage()
    totals = [sum(getattr(result, key) for result in results) for key in ("passed", "failed", "skipped")]
    _print_summary(results, totals, is_traced=is_traced)
    return int(totals[1] > 0 or not has_coverage)


def _report_coverage() -> bool:
    """Print the modules that are not whole, and whether the total is enough."""
    print(flush=True)
    return subprocess.run([sys.executable, "-m", "coverage", "report"], cwd=ROOT, check=False).returncode == 0


def _print_summary(results: list[Result], totals: list[int], *, is_traced: bool) -> None:
    print("\nTraced: the budgets are for runs without.\n" if is_traced else "")
    for result in results:
        over = " OVER BUDGET" if result.seconds > result.tier.budget_seconds and not is_traced else ""
        print(
            f"{result.tier.name:12} {result.passed:5} passed {result.failed:3} failed {result.skipped:3} skipped"
            f"  {result.seconds:6.0f} s of {result.tier.budget_seconds} s{over}"
        )
    print("{} passed, {} failed, {} skipped".format(*totals))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
