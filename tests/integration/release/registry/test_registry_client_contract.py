"""The contract of registries over HTTP: a plain one, and our front before one, under the tests of memory."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.settings import RegistrySettings

if TYPE_CHECKING:
    from types import ModuleType

    from pratique.testkit.services.registry import RegistryNamespace

pytestmark = [pytest.mark.integration]


def _contract() -> ModuleType:
    # By its path: importlib mode keeps test modules from being imported by name.
    path = Path(__file__).resolve().parents[3] / "unit" / "release" / "registry" / "test_registry_contract.py"
    spec = importlib.util.spec_from_file_location("unit_registry_contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_MODULE = _contract()
globals().update({name: value for name, value in vars(_MODULE).items() if name.startswith("Test")})


def _client() -> HttpRegistry:
    return HttpRegistry(RegistrySettings(chunk_bytes=65_536), AuthFiles(()))


@pytest.fixture
def able(repository: str) -> Any:
    return _MODULE.Case(_client(), repository, True, True, True)


@pytest.fixture(params=["plain", "front"])
def case(request: pytest.FixtureRequest, registry: RegistryNamespace) -> Any:
    if request.param == "front":
        return request.getfixturevalue("able")
    return _MODULE.Case(_client(), f"{registry.endpoint.address}/{registry.repository('app')}", False, False, False)
