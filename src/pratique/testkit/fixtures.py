"""Factories of fixtures, and the fixtures that they make by default.

    pratique_NAME    session: the endpoint of a service, shared by the whole run
    NAME             function: a namespace of it, for one test
    pratique_launch  function: starts servers of a test's own

Factories, in the manner of pytest-redis, make more of them, in a conftest.py:

    moto = server_fixture("dynamodb", use="moto")        # session: the endpoint
    moto_tables = namespace_fixture("moto")               # function: a namespace of it
    suite_cache = namespace_fixture("pratique_valkey", scope="module")
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import pytest

from pratique.testkit.errors import ServiceMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.testkit.kit import Kit, PrivateServer
    from pratique.testkit.services.interface import Endpoint, Namespace

__all__ = ["KIT", "kit_of", "namespace_fixture", "server_fixture", "server_of"]

KIT: Final = pytest.StashKey["Kit"]()
_SERVER: Final = "pratique_server"
_NAMESPACE_OF: Final = "pratique_namespace_of"

Scope = Literal["session", "package", "module", "class", "function"]


def kit_of(config: pytest.Config) -> Kit:
    """Return the kit of this process."""
    return config.stash[KIT]


def server_fixture(service: str, *, use: str | None = None) -> Any:  # noqa: ANN401 - pytest keeps its fixture type private
    """Return a session fixture that yields a service's endpoint.

    Args:
        service: its name.
        use: a URL, a back end (`process`, `container`) or a provider; wins over flag, environment and ini.
    """

    def server(pytestconfig: pytest.Config) -> Endpoint:
        kit = kit_of(pytestconfig)
        try:
            return kit.endpoint(service, use)
        except ServiceMissingError as error:
            _give_up(kit, service, error)

    setattr(server, _SERVER, (service, use))
    server.__doc__ = f"The endpoint of {service}, shared by the whole run."
    return pytest.fixture(scope="session")(server)


def namespace_fixture(server: str, *, scope: Scope = "function") -> Any:  # noqa: ANN401 - as above
    """Return a fixture that yields a namespace of an endpoint.

    Args:
        server: the name of the endpoint's fixture.
        scope: how long one namespace lives; a suite that shares one takes "module" or "class".
    """

    def namespace(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Namespace]:
        endpoint = request.getfixturevalue(server)
        with kit_of(pytestconfig).namespace(endpoint, request.node.nodeid or "the session") as opened:
            yield opened

    setattr(namespace, _NAMESPACE_OF, server)
    namespace.__doc__ = f"A namespace of {server} for one {scope}."
    return pytest.fixture(scope=scope)(namespace)


def server_of(item: pytest.Item, fixture: str) -> tuple[str, str | None] | None:
    """Return the service and the factory's argument behind a fixture of a test, or None where it is another kind."""
    manager = item.session._fixturemanager  # noqa: SLF001 - pytest has no other view of it
    while definitions := manager.getfixturedefs(fixture, item):
        function = definitions[-1].func
        behind: tuple[str, str | None] | None = getattr(function, _SERVER, None)
        if behind is not None:
            return behind
        fixture = getattr(function, _NAMESPACE_OF, "")
    return None


def _give_up(kit: Kit, service: str, error: ServiceMissingError) -> NoReturn:
    kit.books.missing[service] = str(error)
    if kit.options.is_required:
        pytest.fail(str(error), pytrace=False)
    kit.books.refused[service] = kit.books.refused.get(service, 0) + 1
    pytest.skip(str(error))


@pytest.fixture
def pratique_launch(pytestconfig: pytest.Config) -> Iterator[Callable[..., PrivateServer[Any]]]:
    """Start a server for one test that stops, pauses or fills it: `pratique_launch("valkey")`."""
    kit = kit_of(pytestconfig)
    with contextlib.ExitStack() as stack:

        def launch(service: str, use: str | None = None) -> PrivateServer[Any]:
            try:
                server = kit.launch(service, use)
            except ServiceMissingError as error:
                _give_up(kit, service, error)
            stack.callback(server.stop)
            return server

        yield launch


pratique_valkey = server_fixture("valkey")
valkey = namespace_fixture("pratique_valkey")
