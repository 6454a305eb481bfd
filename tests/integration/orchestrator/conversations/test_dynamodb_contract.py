"""The contract of conversation stores, over DynamoDB: the very tests that memory and SQLite pass."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

pytestmark = [pytest.mark.integration]


def _contract(name: str) -> ModuleType:
    # By its path: importlib mode keeps test modules from being imported by name.
    path = Path(__file__).resolve().parents[3] / "unit" / "orchestrator" / "conversations" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"conversations_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


for _name in ("test_contract", "test_personal"):
    globals().update({name: value for name, value in vars(_contract(_name)).items() if name.startswith("Test")})
