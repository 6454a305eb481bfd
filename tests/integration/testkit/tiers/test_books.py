"""What the summary counts and tells, in one process and in two workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.integration


def test_test_that_takes_its_worker_with_it_is_counted_as_failed(
    pytester: pytest.Pytester, run: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(
        """
        import os, pytest

        @pytest.mark.unit
        def test_call(): os._exit(1)
        @pytest.fixture
        def broken(): os._exit(1)
        @pytest.mark.unit
        def test_setup(broken): pass
        @pytest.mark.unit
        def test_passes(): pass
        """
    )
    result = run("-n1")
    result.stdout.fnmatch_lines(
        ["unit     *    1 failed *", "*::test_setup: failed: its worker crashed before it told *"]
    )
    result.stdout.no_fnmatch_line("* OVER BUDGET*")


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
class TestCounts:
    def test_what_pytest_counts_is_counted(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(
            """
            import pytest

            pytestmark = pytest.mark.unit

            @pytest.fixture
            def broken(): raise RuntimeError
            @pytest.fixture
            def leak():
                yield
                raise RuntimeError

            def test_error(broken): pass
            def test_passes_and_leaks(leak): pass
            def test_passes(): pass
            def test_fails(): assert False
            def test_skips(): pytest.skip()
            @pytest.mark.xfail
            def test_known(): assert False
            """
        )
        result = run(workers)
        result.assert_outcomes(passed=2, failed=1, errors=2, skipped=1, xfailed=1)
        result.stdout.fnmatch_lines(["unit     *   2 passed    1 failed    2 errors    1 skipped *, 1 xfailed"])

    @pytest.mark.parametrize("option", ["--setup-plan", "--setup-only", "--collect-only"])
    def test_tests_that_do_not_run_are_not_counted(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str, option: str
    ) -> None:
        pytester.makepyfile("import pytest\n@pytest.mark.unit\ndef test_a(): pass")
        result = run(workers, option)
        assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        result.stdout.no_fnmatch_line("unit *")

    def test_no_line_is_empty(
        self, pytester: pytest.Pytester, run: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile("import pytest\n@pytest.mark.unit\ndef test_a(): pass")
        lines = run(workers).outlines
        title = next(number for number, line in enumerate(lines) if "= tiers =" in line)
        assert lines[title + 1].startswith("unit ")


class TestServices:
    """With the whole plugin, in a process of its own."""

    @pytest.fixture
    def run_all(
        self, pytester: pytest.Pytester, write_ini: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., pytest.RunResult]:
        monkeypatch.setenv("PYTEST_PLUGINS", "pratique.testkit.plugin,xdist.plugin")
        write_ini("")
        return lambda *words: pytester.runpytest_subprocess(*words, timeout=60)

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", ["-n0", "-n2"])
    def test_a_unit_test_that_uses_a_service_is_told_and_fails_where_enforced(
        self, pytester: pytest.Pytester, run_all: Callable[..., pytest.RunResult], workers: str
    ) -> None:
        pytester.makepyfile(test_a="import pytest\n@pytest.mark.unit\ndef test_a(valkey): pass")
        result = run_all(workers)
        result.assert_outcomes(passed=1)
        assert "test_a.py::test_a: marked unit, uses valkey" in result.outlines
        result = run_all(workers, "--pratique-enforce")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*marked unit, uses valkey (pratique_enforce)*"])

    def test_tests_without_a_mark_that_use_a_service_are_integration_tests(
        self, pytester: pytest.Pytester, run_all: Callable[..., pytest.RunResult]
    ) -> None:
        pytester.makepyfile("def test_a(valkey): pass\ndef test_b(): pass")
        result = run_all("--pratique-tier=integration")
        result.assert_outcomes(passed=1, deselected=1)
        result.stdout.fnmatch_lines(["integration *1 passed*"])
