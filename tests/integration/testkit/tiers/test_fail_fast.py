"""Once a tier has failed, later ones do not run: in one process and in two workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.integration

PLAIN = "def test_plain(): pass"
TWO_TIERS = """
    import pytest

    @pytest.mark.unit
    def test_unit(): assert {works}
    @pytest.mark.unit
    def test_another_unit(): pass
    @pytest.mark.integration
    @pytest.mark.parametrize("number", range(20))
    def test_integration(number): pass
    @pytest.mark.e2e
    def test_e2e(): assert False
"""
CUT = "the unit tier failed: tests of later tiers were skipped from then on (pratique_fail_fast)"


class TestFailFast:
    def test_tests_of_later_tiers_are_skipped_with_the_reason(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
    ) -> None:
        pytester.makepyfile(TWO_TIERS.format(works=False), test_plain=PLAIN)
        result = run("-rs")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.assert_outcomes(passed=2, failed=1, skipped=21)
        result.stdout.fnmatch_lines([CUT, "SKIPPED [[]21] *: the unit tier failed"])

    @pytest.mark.parametrize("phase", ["pytest.fail()", "yield; pytest.fail()"])
    def test_an_error_of_a_fixture_is_a_failure_too(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], phase: str
    ) -> None:
        fixture = f"    @pytest.fixture\n    def broken(): {phase}\n"
        source = TWO_TIERS.format(works=True).replace("test_unit()", "test_unit(broken)")
        pytester.makepyfile(source + fixture)
        assert run().parseoutcomes()["skipped"] == 21

    def test_a_unit_tier_that_passes_or_fails_as_expected_keeps_nothing(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
    ) -> None:
        pytester.makepyfile(
            TWO_TIERS.format(works=False).replace("def test_unit", "@pytest.mark.xfail\n    def test_unit")
        )
        run().assert_outcomes(passed=21, failed=1, xfailed=1)

    @pytest.mark.parametrize(("ini", "skipped"), [("pratique_fail_fast =", 0), ("pratique_fail_fast = integration", 0)])
    def test_which_tiers_fail_fast_is_the_projects_to_say(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], ini: str, skipped: int
    ) -> None:
        pytester.makepyfile(TWO_TIERS.format(works=False))
        run(ini=ini).assert_outcomes(passed=21, failed=2, skipped=skipped)

    @pytest.mark.parametrize("mode", ["load", "loadfile", "worksteal"])
    def test_workers_skip_what_another_ones_failure_forbids(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], mode: str
    ) -> None:
        """A worker may have begun before the failure: those tests run. Here they wait until it is known."""
        body = "import pathlib, time, pytest\npytestmark = pytest.mark.{}\n"
        unit = body.format("unit") + "def test_unit(): assert False"
        late = body.format("integration") + "\n".join(f"def test_{n}(): pass" for n in range(30))
        pytester.makepyfile(test_a=unit, **{f"test_b{n}": late for n in range(3)})
        conftest = pytester.path / "conftest.py"
        conftest.write_text(
            conftest.read_text()
            + """
import time, pytest
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    if "test_a" not in item.nodeid:
        deadline = time.monotonic() + 5
        folder = item.config.rootpath
        while not (folder / "failed").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    return (yield)
@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    if report.failed:
        open("failed", "w").close()
"""
        )
        result = run("-n2", f"--dist={mode}")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.assert_outcomes(failed=1, skipped=90)
        result.stdout.fnmatch_lines([CUT])

    def test_a_later_run_starts_anew(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], tmp_path: Path
    ) -> None:
        """Also where two runs have the same folder for temporary files, one after the other."""
        words = ["-n2", f"--basetemp={tmp_path / 'base'}"]
        pytester.makepyfile(TWO_TIERS.format(works=False))
        assert run(*words).parseoutcomes()["failed"] >= 1
        pytester.makepyfile(TWO_TIERS.format(works=True))
        run(*words).assert_outcomes(passed=22, failed=1)
