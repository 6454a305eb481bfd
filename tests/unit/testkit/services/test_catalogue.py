"""The catalogue: names without imports, each service once."""

from __future__ import annotations

import pytest

from pratique.testkit.services import catalogue
from pratique.testkit.services.catalogue import SERVICES, make_services

pytestmark = pytest.mark.unit


def test_each_service_is_made_once_and_has_the_name_that_it_is_known_by() -> None:
    services = make_services()
    assert len(services) == len(SERVICES)
    assert [service.name for service in services.values()] == list(SERVICES)
    assert list(services.values()) == list(services.values())
    with pytest.raises(KeyError):
        services["disk"]


def test_to_ask_whether_there_is_a_service_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "import_module", None)
    services = make_services()
    assert "valkey" in services
    assert "disk" not in services
    assert list(services) == list(SERVICES)
