"""Runs of pytest with the hooks of the tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# The hooks alone: what else the plugin does at its start (looking for services) has tests of its own.
CONFTEST = """
    import os
    from pratique.testkit.tiers.plugin import add_tier_options, start_tiers

    def pytest_addoption(parser): add_tier_options(parser)
    def pytest_configure(config): start_tiers(config, os.environ)
"""
QUIET = "-p no:cacheprovider -p no:cov -p no:randomly --strict-markers --strict-config"


@pytest.fixture
def write_ini(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.delenv("PRATIQUE_TEST_STAGING", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin,anyio.pytest_plugin")  # of our plugin the hooks of CONFTEST only

    def write(ini: str) -> None:
        pytester.makeini(f"[pytest]\naddopts = {QUIET}\nfilterwarnings = error\n{ini}")

    return write


@pytest.fixture
def run(pytester: pytest.Pytester, write_ini: Callable[[str], None]) -> Callable[..., pytest.RunResult]:
    """Run pytest, strict about marks and settings."""
    pytester.makeconftest(CONFTEST)

    def call(*arguments: str, ini: str = "") -> pytest.RunResult:
        write_ini(ini)
        return pytester.runpytest_inprocess("-p", "no:pratique", *arguments)

    return call
