"""A clock, a signer and a keys file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.core.clock import ManualClock
from pratique.orchestrator.access import (
    ApiKeyFile,
    SessionSigner,
)
from pratique.orchestrator.access.keyring import ApiKeyring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signer(clock: ManualClock) -> SessionSigner:
    return SessionSigner(["s" * 48], clock=clock)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "api-keys.json"


@pytest.fixture
def keyring(file: Path, clock: ManualClock) -> ApiKeyring:
    return ApiKeyring(file, clock=clock)


@pytest.fixture
def keys(file: Path, clock: ManualClock) -> ApiKeyFile:
    return ApiKeyFile(file, clock=clock)
