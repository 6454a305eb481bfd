"""The package's public names: all are there, and none is imported before it is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pratique.testkit

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", pratique.testkit.__all__)
def test_what_is_exported_is_there(name: str) -> None:
    assert getattr(pratique.testkit, name).__name__ == name


def test_what_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pratique.testkit.nothing


def test_the_package_itself_imports_none_of_its_rooms() -> None:
    code = "import sys, pratique.testkit; print([name for name in sys.modules if name.startswith('pratique.testkit.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
