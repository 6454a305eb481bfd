"""The hooks of the tiers, in pytest runs of their own: in one process and in two workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.integration

MIXED = """
    import time
    import pytest

    pytestmark = pytest.mark.integration

    @pytest.mark.e2e
    def test_e2e(): pass
    @pytest.mark.slow
    def test_integration_slow(): pass
    def test_integration(): pass
    @pytest.mark.fast
    def test_integration_fast(): pass
    @pytest.mark.staging
    def test_staging(): pass
    @pytest.mark.unit
    def test_unit(): pass
"""
PLAIN = "def test_plain(): pass"


def order_of(result: pytest.RunResult) -> list[str]:
    """The tests in the order in which they were started (or listed)."""
    return [found[1] for line in result.outlines if (found := re.search(r"::test_(\w+)", line))]


class TestOrder:
    def test_tiers_run_from_the_cheapest_and_within_one_as_written(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
    ) -> None:
        pytester.makepyfile(test_a=MIXED, test_b=PLAIN)
        assert order_of(run("--co", "-q")) == [
            *("plain", "unit", "integration_slow", "integration", "integration_fast", "staging", "e2e")
        ]

    def test_speed_sorts_within_tiers_where_asked(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
    ) -> None:
        pytester.makepyfile(MIXED)
        listed = order_of(run("--co", "-q", ini="pratique_order = speed"))
        assert listed == ["unit", "integration_fast", "integration", "integration_slow", "staging", "e2e"]

    def test_off_leaves_the_order_alone(self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]) -> None:
        pytester.makepyfile(MIXED)
        assert order_of(run("--co", "-q", ini="pratique_order = off"))[0] == "e2e"

    @pytest.mark.parametrize("mode", ["load", "loadfile"])
    def test_workers_run_the_tiers_in_order(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], mode: str
    ) -> None:
        # Five files of each tier; those of the dearest hold the most tests, so that xdist would like them first.
        for number in range(5):
            for tier, tests in (("e2e", 4), ("integration", 2), ("unit", 1)):
                body = "\n".join(f"def test_{tier}_{one}(): pass" for one in range(tests))
                pytester.makepyfile(
                    **{f"test_{tier[0]}{number}": f"import pytest\npytestmark = pytest.mark.{tier}\n{body}"}
                )
        result = run("-n2", f"--dist={mode}", "-v", "-p", "no:randomly")
        result.assert_outcomes(passed=35)
        ran = [found[1] for line in result.outlines if (found := re.search(r"PASSED .*::test_([a-z0-9]+)_", line))]
        # Two workers finish side by side, so that neighbours may swap; no dear test overtakes the cheap ones.
        assert ran[0] == "unit"
        assert ran.index("e2e") > 6
        assert ran[-6:] == ["e2e"] * 6


class TestSelection:
    def test_tiers_are_selected_by_name(self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]) -> None:
        pytester.makepyfile(test_a=MIXED, test_b=PLAIN)
        result = run("--pratique-tier=unit,e2e")
        result.assert_outcomes(passed=2, deselected=5)

    def test_a_default_tier_takes_in_what_has_no_mark(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
    ) -> None:
        pytester.makepyfile(test_a=MIXED, test_b=PLAIN)
        result = run("--pratique-tier=unit", ini="pratique_tier_default = unit")
        result.assert_outcomes(passed=2, deselected=5)

    def test_staging_is_skipped_with_the_reason(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
    ) -> None:
        pytester.makepyfile(MIXED)
        result = run("-rs")
        result.assert_outcomes(passed=5, skipped=1)
        result.stdout.fnmatch_lines(["SKIPPED*staging: pass --pratique-staging*"])

    @pytest.mark.parametrize(
        ("arguments", "ini", "passed"),
        [(["--pratique-staging"], "", 6), (["--pratique-tier=staging"], "", 1), ([], "pratique_staging = true", 6)],
    )
    def test_staging_runs_where_there_is_an_endpoint(
        self,
        pytester: pytest.Pytester,
        run: Callable[..., pytest.RunResult],
        arguments: list[str],
        ini: str,
        passed: int,
    ) -> None:
        pytester.makepyfile(MIXED)
        assert run(*arguments, ini=ini).parseoutcomes().get("passed") == passed

    def test_staging_runs_where_the_environment_says_so(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PRATIQUE_TEST_STAGING", "1")
        pytester.makepyfile(MIXED)
        run().assert_outcomes(passed=6)


SLEEPY = """
    import time
    import pytest

    @pytest.fixture(scope="session")
    def service():
        time.sleep(0.4)

    @pytest.mark.unit
    @pytest.mark.fast
    def test_late(): time.sleep(0.3)

    @pytest.mark.unit
    @pytest.mark.fast
    def test_in_time(service): pass
"""


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
class TestTime:
    def test_the_summary_has_counts_times_and_budgets(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(MIXED)
        result = run(workers, ini="pratique_budgets = e2e=none")
        assert result.ret == 0
        result.stdout.fnmatch_lines(
            [
                "*= tiers =*",
                "unit *1 passed    0 failed    0 errors    0 skipped*s of 30 s, tests add up to*",
                "integration *3 passed *s of 300 s*",
                "integration.fast *s of 180 s*",
                "staging *0 passed    0 failed    0 errors    1 skipped*",
                "e2e *1 passed *",
            ]
        )
        result.stdout.no_fnmatch_line("*OVER BUDGET*")

    def test_overruns_are_told_and_harmless_unless_enforced(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(SLEEPY)
        result = run(workers, "--pratique-budgets=unit=0.01", ini="pratique_limits = fast=0.2")
        assert result.ret == 0
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["*OVER BUDGET*", "*::test_late: took * s, fast unit tests may take 0.2 s*"])
        result.stdout.no_fnmatch_line("*test_in_time: took*")  # its set-up was slow, its call was not

    def test_an_enforced_budget_fails_the_run_and_says_why(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(SLEEPY)
        result = run(workers, "--pratique-enforce", ini="pratique_budgets = unit=0.01")
        assert result.ret == 1
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["FAILED: over budget (pratique_enforce): unit: * s, budget 0.01 s*"])

    def test_an_enforced_limit_fails_the_test(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(SLEEPY)
        result = run(workers, ini="pratique_limits = fast=0.2\npratique_enforce = true")
        assert result.ret == 1
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*took * s, fast unit tests may take 0.2 s*(pratique_enforce)*"])

    def test_an_sla_fails_what_passed_too_late_and_leaves_other_failures_alone(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(
            """
            import asyncio, time
            import pytest

            @pytest.fixture
            def slow_start(): time.sleep(0.2)
            @pytest.fixture
            def anyio_backend(): return "asyncio"

            @pytest.mark.sla(seconds=0.1)
            def test_late(): time.sleep(0.2)
            @pytest.mark.anyio
            @pytest.mark.sla(seconds=0.1)
            async def test_late_async(): await asyncio.sleep(0.2)
            @pytest.mark.sla(seconds=60)
            def test_in_time(slow_start): pass
            @pytest.mark.sla(seconds=0.1)
            def test_quick_after_a_slow_start(slow_start): pass
            @pytest.mark.sla(seconds=0.1)
            def test_wrong():
                time.sleep(0.2)
                assert 1 == 2
            @pytest.mark.sla(seconds=0.1)
            def test_skipped():
                time.sleep(0.2)
                pytest.skip("late")
            @pytest.mark.sla(seconds=0.1)
            @pytest.mark.xfail(strict=True)
            def test_known_to_be_late(): time.sleep(0.2)

            @pytest.mark.sla(seconds=0.1)
            class TestNearest:
                @pytest.mark.sla(seconds=60)
                def test_has_its_own(self): time.sleep(0.2)
            """
        )
        result = run(workers)
        result.assert_outcomes(passed=3, failed=3, skipped=1, xfailed=1)
        text = result.stdout.str()
        assert len(re.findall(r"^sla: expected the call within 0\.1 s, it took 0\.\d{3} s$", text, re.MULTILINE)) == 2
        assert "assert 1 == 2" in text


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "ini", "said"),
        [
            ([], "pratique_fail_fast = true", "*pratique_fail_fast names no tier: 'true'*"),
            (["--pratique-tier=smoke"], "", "*names no tier: 'smoke'*"),
            (["--pratique-budgets=unit=soon"], "", "*--pratique-budgets says 'unit=soon'*"),
            ([], "pratique_budgets = all=1", "*pratique_budgets says 'all=1'*"),
            ([], "pratique_limits = fast", "*pratique_limits says 'fast'*"),
            ([], "pratique_order = random", "*pratique_order is 'random'*"),
            ([], "pratique_tier_default = unit,e2e", "*names several tiers*"),
        ],
    )
    def test_an_option_that_means_nothing_is_a_usage_error(
        self,
        pytester: pytest.Pytester,
        run: Callable[..., pytest.RunResult],
        arguments: list[str],
        ini: str,
        said: str,
    ) -> None:
        pytester.makepyfile(PLAIN)
        result = run(*arguments, ini=ini)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([said])

    @pytest.mark.parametrize("workers", ["-n0", "-n2"])
    def test_an_sla_that_means_nothing_ends_the_run_with_the_test_named(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(test_a="import pytest\n@pytest.mark.sla(2)\ndef test_a(): pass")
        result = run(workers)
        assert result.ret == (pytest.ExitCode.USAGE_ERROR if workers == "-n0" else pytest.ExitCode.TESTS_FAILED)
        assert re.search(r"test_a\.py::test_a is marked sla\(2\)", result.stdout.str() + result.stderr.str())

    @pytest.mark.parametrize("workers", ["-n0", "-n2"])
    def test_two_tiers_on_one_test_end_the_run_with_the_test_named(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(
            test_a="import pytest\n@pytest.mark.unit\n@pytest.mark.integration\ndef test_a(): pass\ndef test_b(): pass"
        )
        result = run(workers)
        assert result.ret == (pytest.ExitCode.USAGE_ERROR if workers == "-n0" else pytest.ExitCode.TESTS_FAILED)
        said = result.stdout.str() + result.stderr.str()
        assert "test_a.py::test_a is marked unit and integration in one place" in said

    @pytest.mark.parametrize("workers", ["-n0", "-n2"])
    def test_a_selection_of_nothing_says_what_tests_without_a_mark_are(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(PLAIN)
        result = run(workers, "--pratique-tier=unit")
        assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
        result.stdout.fnmatch_lines(["--pratique-tier=unit selected no test: *the ini value pratique_tier_default*"])
        result = run(workers, "--pratique-tier=unit", ini="pratique_tier_default = e2e")
        assert "--pratique-tier=unit selected no test" in result.outlines

    def test_a_project_with_marks_of_the_same_names_is_not_harmed(
        self, pytester: pytest.Pytester, write_ini: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a process of its own, with the whole plugin as it is installed."""
        monkeypatch.setenv("PYTEST_PLUGINS", "pratique.testkit.plugin")
        pytester.makepyfile(MIXED)
        write_ini("markers =\n    unit: ours\n    slow: ours\n    sla(seconds): ours")
        result = pytester.runpytest_subprocess("-v", timeout=60)
        result.assert_outcomes(passed=5, skipped=1)
        result.stdout.fnmatch_lines(["*::test_unit PASSED*", "*= tiers =*", "unit *"])
