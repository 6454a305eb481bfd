"""The entry point of the pytest plugin: brings in its hooks, `pratique.testkit.hooks`, where the extra is installed.

The distribution brings this module to everybody who installs any part of it, so it imports nothing and does nothing
where the extra `testkit` is not there.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_addoption"]


def _is_installed() -> bool:
    return find_spec("ministack") is not None


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register the hooks; pytest calls theirs of this name at once."""
    if _is_installed():
        from pratique.testkit import hooks

        pluginmanager.register(hooks, "pratique-hooks")
