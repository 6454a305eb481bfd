"""The inventory: what is told of back ends that are here and of those that are not."""

from __future__ import annotations

import pytest

from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.host.launch import ContainerLaunch, ProcessLaunch, TcpReady
from pratique.testkit.services.interface import Backend, Found, Provider
from pratique.testkit.services.inventory import (
    describe_launch,
    hints_for,
    missing_services,
    ready_stock,
    take_inventory,
)

pytestmark = pytest.mark.unit


class OneService:
    def __init__(self, *providers: Provider) -> None:
        self.providers = providers


def here() -> Found:
    return Found(launch=ProcessLaunch(command=("/bin/server", "--port", "{port}"), ready=TcpReady()), version="1.2")


def gone() -> Found:
    raise ServiceMissingError("it is not here", hint="Install it.")


def provider(name: str, find: object) -> Provider:
    return Provider(name=name, backend=Backend.PROCESS, find=find)  # type: ignore[arg-type]  # a function of the kind


def test_what_is_here_is_told_with_its_place_and_what_is_not_with_the_way_to_get_it() -> None:
    stock = take_inventory({"cache": OneService(provider("a", here), provider("b", gone))})  # type: ignore[dict-item]  # what is read of one
    assert [(one.provider, one.is_here, one.version, one.where, one.why, one.hint) for one in stock] == [
        ("a", True, "1.2", "/bin/server", "", ""),
        ("b", False, "", "", "it is not here", "Install it."),
    ]


def test_the_first_that_is_here_is_what_a_run_takes() -> None:
    services = {
        "cache": OneService(provider("a", gone), provider("b", here), provider("c", here)),
        "queue": OneService(provider("a", gone)),
    }
    ready = ready_stock(take_inventory(services))  # type: ignore[arg-type]  # as above
    assert {name: one.provider for name, one in ready.items()} == {"cache": "b"}


def test_a_hint_is_told_once_with_all_that_it_is_for() -> None:
    def gone_for_good() -> Found:
        raise ServiceMissingError("nobody makes it any more")

    services = {
        "cache": OneService(provider("a", gone), provider("b", here), provider("c", gone)),
        "queue": OneService(provider("a", gone), provider("d", gone_for_good)),
    }
    stock = take_inventory(services)  # type: ignore[arg-type]  # as above
    assert hints_for(stock) == ["a, c: Install it.", "d: nobody makes it any more"]


def test_a_service_is_missing_only_where_no_back_end_is_here() -> None:
    services = {"cache": OneService(provider("a", gone), provider("b", here)), "queue": OneService(provider("a", gone))}
    stock = take_inventory(services)  # type: ignore[arg-type]  # as above
    assert missing_services(stock, ["queue", "cache", "queue"]) == ["queue"]
    assert missing_services(stock, []) == []
    with pytest.raises(TestkitUsageError, match="no service 'disk'"):
        missing_services(stock, ["disk"])


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("python", "-m", "ministack", "--x"), "python -m ministack"),
        (("java", "-jar", "w.jar", "--port", "{port}"), "java -jar w.jar"),
        (("server", "{folder}/config"), "server"),
        ((), ""),
    ],
)
def test_a_command_is_told_up_to_its_flags(command: tuple[str, ...], expected: str) -> None:
    assert describe_launch(ProcessLaunch(command=command, ready=TcpReady())) == expected


def test_a_container_is_told_by_its_image() -> None:
    assert describe_launch(ContainerLaunch(image="registry:3", port=1, ready=TcpReady())) == "registry:3"
