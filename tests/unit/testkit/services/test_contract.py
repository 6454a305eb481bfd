"""What every service of the catalogue has: endpoints and namespaces that say where, and make clients of it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pratique.testkit.errors import ServiceGoneError, ServiceStartError
from pratique.testkit.ports import reserved_port
from pratique.testkit.services.catalogue import make_services
from pratique.testkit.services.interface import Backend, Connection

pytestmark = pytest.mark.unit

SERVICES = make_services()
ASYNC = {"valkey", "dynamodb", "s3", "sqs", "kinesis"}
"""Services whose usual client has a sibling for asyncio."""


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> Any:
    return SERVICES[request.param]


def endpoint_of(service: Any, url: str, *, backend: Backend = Backend.PROCESS, is_shared: bool = False) -> Any:
    """An endpoint that nobody was asked for; OpenSearch's `connect` asks always."""
    connection = Connection(url=url, backend=backend, provider="x", version="1", is_shared=is_shared)
    if service.name != "opensearch":
        return service.connect(connection)
    from pratique.testkit.services.opensearch import OpenSearchEndpoint

    return OpenSearchEndpoint(service="opensearch", connection=connection)


def url_of(service: Any, port: int = 1) -> str:
    return f"{service.providers[0].scheme}://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def _no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore import handlers

    monkeypatch.setattr(handlers, "BUILTIN_HANDLERS", list(handlers.BUILTIN_HANDLERS))


def test_an_endpoint_and_a_namespace_have_a_url_and_make_clients(service: Any) -> None:
    endpoint = endpoint_of(service, url_of(service))
    namespace = service.namespace(endpoint, "pq12abn1")
    assert endpoint.url == url_of(service)
    assert "127.0.0.1:1" in namespace.url
    for one in (endpoint, namespace):
        assert inspect.ismethod(one.client), f"{type(one).__name__}.client is no method"
        assert (service.name in ASYNC) is inspect.ismethod(getattr(one, "async_client", None))


def test_a_client_is_made_without_a_server(service: Any) -> None:
    client = endpoint_of(service, url_of(service)).client()
    assert client is not None
    getattr(client, "close", lambda: None)()


def test_a_url_where_nobody_answers_is_refused_with_the_service_the_url_and_what_to_do(service: Any) -> None:
    with reserved_port() as port:
        url = url_of(service, port)
        given = Connection(url=url, backend=Backend.URL, provider="url")
        with pytest.raises(ServiceStartError) as raised:
            service.connect(given)
    assert raised.value.message.startswith("Nobody answers as ")
    assert f" at {url}: " in raised.value.message
    assert "Is it running?" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("backend", "is_shared", "is_alone"),
    [(Backend.PROCESS, False, True), (Backend.PROCESS, True, False), (Backend.URL, False, False)],
)
def test_only_a_server_that_nobody_else_uses_is_ones_own(backend: Backend, is_shared: bool, is_alone: bool) -> None:
    valkey = SERVICES["valkey"]
    assert endpoint_of(valkey, url_of(valkey), backend=backend, is_shared=is_shared).is_alone is is_alone


SHARED = [(name, Backend.PROCESS) for name in ("dynamodb", "s3", "sqs", "kinesis", "registry", "opensearch")]


@pytest.mark.parametrize(("name", "backend"), [*SHARED, ("registry", Backend.URL), ("opensearch", Backend.URL)])
def test_beside_others_nobody_is_blamed_for_what_appeared(name: str, backend: Backend) -> None:
    """They do not even look: the server is not there."""
    service = SERVICES[name]
    endpoint = endpoint_of(service, url_of(service), backend=backend, is_shared=backend is Backend.PROCESS)
    namespace = service.namespace(endpoint, "pq12abn1")
    namespace.open()
    assert namespace.leaks() == []


def _ask_wiremock(endpoint: Any) -> None:
    endpoint.client().journal()


def _ask_registry(endpoint: Any) -> None:
    endpoint.client().tags("a")


def _push_to_registry(endpoint: Any) -> None:
    endpoint.client().push_image("a", "v1")


def _invoke(endpoint: Any) -> None:
    endpoint.client().invoke({"query": "x"})


def _stream(endpoint: Any) -> None:
    endpoint.client().stream({"query": "x"})


def _count(endpoint: Any) -> None:
    endpoint.client().requests_running()


@pytest.mark.parametrize(
    ("name", "title", "call"),
    [
        ("wiremock", "WireMock", _ask_wiremock),
        ("registry", "The registry", _ask_registry),
        ("registry", "The registry", _push_to_registry),
        ("model_server", "The model server", _invoke),
        ("model_server", "The model server", _stream),
        ("model_server", "The model server", _count),
    ],
)
def test_a_service_that_has_gone_is_told_by_the_kits_clients_with_its_name_and_url(
    name: str, title: str, call: Any
) -> None:
    with reserved_port() as port:
        url = url_of(SERVICES[name], port)
        endpoint = endpoint_of(SERVICES[name], url)
        with pytest.raises(ServiceGoneError, match=f"^{title} at {url} does not answer: "):
            call(endpoint)
