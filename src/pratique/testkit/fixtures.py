"""Factories of fixtures, and the fixtures that they make by default.

    pratique_NAME    session: the endpoint of a service, shared by the whole run
    NAME             function: a namespace of it, for one test
    upstream         function: an HTTP upstream to script, a namespace of pratique_wiremock
    pratique_launch  function: starts servers of a test's own
    tcp_faults       function: puts a faulty connection in front of any TCP server

Factories, in the manner of pytest-redis, make more of them, in a conftest.py:

    moto = server_fixture("dynamodb", use="moto")        # session: the endpoint
    moto_tables = namespace_fixture("moto")               # function: a namespace of it
    suite_cache = namespace_fixture("pratique_valkey", scope="module")
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from pratique.testkit.errors import (
    ServiceGoneError,
    ServiceMissingError,
    ServiceStartError,
    TestkitError,
    TestkitUsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pratique.testkit.choreography.tcp import TcpFaults
    from pratique.testkit.kit import Kit, PrivateServer
    from pratique.testkit.services.interface import Endpoint, Namespace
    from pratique.testkit.session import KitSession

__all__ = [
    "SESSION",
    "Launcher",
    "kit_of",
    "missing_behind",
    "namespace_fixture",
    "server_fixture",
    "server_of",
    "shorten_next",
]

SESSION: Final[pytest.StashKey[KitSession]] = pytest.StashKey()
_SERVER: Final = "pratique_server"
_NAMESPACE_OF: Final = "pratique_namespace_of"
_MISSING: Final = "pratique_missing"
_TOLD: Final = "pratique_told"

Scope = Literal["session", "package", "module", "class", "function"]


def kit_of(config: pytest.Config) -> Kit:
    """Return the kit of this process."""
    return config.stash[SESSION].kit


def server_fixture(service: str, *, use: str | None = None, doc: str = "") -> Any:  # noqa: ANN401 - pytest keeps its fixture type private
    """Return a session fixture that yields a service's endpoint.

    Args:
        service: its name.
        use: a URL (or PROVIDER+URL), a back end (`process`, `container`) or a provider; wins over flag, environment
            and ini.
        doc: what `pytest --fixtures` says of it.
    """

    def server(pytestconfig: pytest.Config) -> Endpoint:
        kit = kit_of(pytestconfig)
        given = kit.given(service, use)
        guard = pytestconfig.pluginmanager.get_plugin("pratique-guard")
        if given is not None and guard is not None:
            guard.allow_url(given.url)  # it was named for this run, as a flag's is
        try:
            return kit.endpoint(service, use)
        except ServiceMissingError as error:
            outcome: BaseException = _missing(kit, service, error)
        except (ServiceStartError, ServiceGoneError, TestkitUsageError) as error:
            outcome = _failed(error)
        raise outcome  # here, so that pytest does not show one in the handling of another

    setattr(server, _SERVER, (service, use))
    server.__doc__ = doc or f"Where {service} is, for the whole run."
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
    whose = "One test's own part" if scope == "function" else f"One part for each {scope}"
    namespace.__doc__ = f"{whose} of `{server}`."
    return pytest.fixture(scope=scope)(namespace)


def server_of(item: pytest.Item, fixture: str) -> tuple[str, str | None] | None:
    """Return the service and the factory's argument behind a fixture of a test, or None where it is another kind.

    Raises:
        TestkitUsageError: it is a namespace of itself.
    """
    info: Any = getattr(item, "_fixtureinfo", None)
    manager = item.session._fixturemanager  # noqa: SLF001 - pytest has no other view of it
    known = info.name2fixturedefs if info is not None else {}
    seen: set[str] = set()
    # What a test names itself pytest has looked up already; namespaces look their servers up when they are made.
    while definitions := known.get(fixture) or manager.getfixturedefs(fixture, item):
        if fixture in seen:
            raise TestkitUsageError(
                f"The fixture '{fixture}' is a namespace of itself.",
                hint="Expected the name of a server's fixture, as in namespace_fixture('pratique_valkey').",
            )
        seen.add(fixture)
        function = definitions[-1].func
        behind: tuple[str, str | None] | None = getattr(function, _SERVER, None)
        if behind is not None:
            return behind
        fixture = getattr(function, _NAMESPACE_OF, "")
        if not fixture:
            break
    return None


def _missing(kit: Kit, service: str, error: ServiceMissingError) -> BaseException:
    kit.books.missing[service] = _in_lines(error)
    outcome = _failed(error) if kit.options.is_required else pytest.skip.Exception(_in_lines(error))
    setattr(outcome, _MISSING, service)
    return outcome


def _failed(error: TestkitError) -> BaseException:
    outcome = pytest.fail.Exception(_in_lines(error), pytrace=False)
    setattr(outcome, _TOLD, False)
    return outcome


def _in_lines(error: TestkitError) -> str:
    return f"{error.message}\nHint: {error.hint}" if error.hint else error.message


def missing_behind(error: BaseException) -> str | None:
    """Return the missing service of a test's outcome: pytest raises what a session fixture raised again."""
    return getattr(error, _MISSING, None)


def shorten_next(error: BaseException, test: str) -> None:
    """Once a test has told in full why a server cannot be had, let the others of the run say it in one line."""
    if isinstance(error, pytest.fail.Exception) and getattr(error, _TOLD, None) is False:
        setattr(error, _TOLD, True)
        error.msg = f"{str(error.msg).splitlines()[0].rstrip(':.')}: as for {test}."


class Launcher:
    """Starts servers for one test: `pratique_launch("valkey")`. They end with it."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.servers: list[PrivateServer[Any]] = []

    def __call__(self, service: str, use: str | None = None) -> PrivateServer[Any]:
        """Return a server of the test's own, to stop, pause or fill."""
        try:
            server = self._kit.launch(service, use)
        except ServiceMissingError as error:
            outcome = _missing(self._kit, service, error)
        else:
            self.servers.append(server)
            return server
        raise outcome

    def stop(self) -> None:
        """End those that still run."""
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.callback(server.stop)


@pytest.fixture
def pratique_launch(pytestconfig: pytest.Config) -> Iterator[Launcher]:
    """Start a server for one test that stops, pauses or fills it: `pratique_launch("valkey")`."""
    launcher = Launcher(kit_of(pytestconfig))
    yield launcher
    launcher.stop()


@pytest.fixture
def tcp_faults() -> Iterator[TcpFaults]:
    """Put a faulty connection before any TCP server; it heals, and is gone, with the test."""
    from pratique.testkit.choreography.tcp import TcpFaults

    with TcpFaults() as faults:
        yield faults


pratique_valkey = server_fixture("valkey")
valkey = namespace_fixture("pratique_valkey")

pratique_dynamodb = server_fixture("dynamodb")
dynamodb = namespace_fixture("pratique_dynamodb")
pratique_s3 = server_fixture("s3")
s3 = namespace_fixture("pratique_s3")
pratique_sqs = server_fixture("sqs")
sqs = namespace_fixture("pratique_sqs")
pratique_kinesis = server_fixture("kinesis")
kinesis = namespace_fixture("pratique_kinesis")
pratique_opensearch = server_fixture("opensearch")
opensearch = namespace_fixture("pratique_opensearch")

pratique_registry = server_fixture("registry")
registry = namespace_fixture("pratique_registry")

pratique_model_server = server_fixture("model_server")
model_server = namespace_fixture("pratique_model_server")
pratique_real_model_server = server_fixture("model_server", use="vllm", doc="vLLM with the small model.")

pratique_wiremock = server_fixture("wiremock")
upstream = namespace_fixture("pratique_wiremock")
