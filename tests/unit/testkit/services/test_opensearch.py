"""Names of a namespace of OpenSearch, and what is told apart by them."""

from __future__ import annotations

import pytest

from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.host.launch import ContainerLaunch, HttpReady
from pratique.testkit.services import opensearch
from pratique.testkit.services.catalogue import make_services
from pratique.testkit.services.interface import Backend, Connection
from pratique.testkit.services.opensearch import (
    OpenSearchEndpoint,
    OpenSearchNamespace,
    OpenSearchService,
    foreign_names,
)

pytestmark = pytest.mark.unit


def _namespace(name: str = "pq12ab34gw0n7") -> OpenSearchNamespace:
    connection = Connection(url="http://127.0.0.1:9200", backend=Backend.URL, provider="url")
    return OpenSearchNamespace(OpenSearchEndpoint(service="opensearch", connection=connection), name)


@pytest.mark.parametrize(
    "name", ["", "Products", "a b", "a,b", "a*", "a/b", "a\\b", 'a"b', "a#b", "a?", "a:b", "a|b", "<a>", "a+b"]
)
def test_name_that_opensearch_refuses_is_refused_before_it_is_asked(name: str) -> None:
    with pytest.raises(TestkitUsageError, match="takes no index named"):
        _namespace().index(name)


def test_name_may_have_255_bytes_with_its_prefix() -> None:
    namespace = _namespace()
    room = 255 - len(namespace.prefix)
    assert len(namespace.index("a" * room)) == 255
    with pytest.raises(TestkitUsageError):
        namespace.index("a" * (room + 1))
    with pytest.raises(TestkitUsageError):
        namespace.index("é" * (room // 2 + 1))


def test_namespace_is_reached_at_its_servers_address() -> None:
    assert _namespace().url == "http://127.0.0.1:9200"


def test_names_of_two_namespaces_differ_and_none_is_a_prefix_of_the_other() -> None:
    one, ten = _namespace("pq12ab34n1"), _namespace("pq12ab34n10")
    assert not ten.index("a").startswith(one.prefix)


def test_names_of_namespaces_and_of_the_server_are_not_foreign() -> None:
    ours = [
        "pq12ab34n1-products",
        "pq00ff00gw1n22-a",
        ".ds-pq12ab34n1-stream-000001",
        ".plugins-ml-config",
        "top_queries-2026.01",
    ]
    assert foreign_names([*ours, "products", "pq-products", "pqueue"]) == ["products", "pq-products", "pqueue"]


def test_container_is_one_node_without_security_and_with_a_small_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    from pratique.testkit.host import container

    monkeypatch.setattr(container, "require_engine", lambda: "unix:///engine.sock")
    (provider,) = OpenSearchService().providers
    found = provider.find()
    assert isinstance(found.launch, ContainerLaunch)
    assert found.launch.image.endswith(f"opensearch:{found.version}")
    assert found.launch.environment["discovery.type"] == "single-node"
    assert found.launch.environment["DISABLE_SECURITY_PLUGIN"] == "true"
    assert "-Xmx512m" in found.launch.environment["OPENSEARCH_JAVA_OPTS"]
    assert isinstance(found.launch.ready, HttpReady)


def test_every_gap_of_a_provider_is_a_capability_of_the_service() -> None:
    service = OpenSearchService()
    assert {gap for provider in service.providers for gap in provider.gaps} <= set(service.capabilities)


def test_missing_client_is_told_with_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *, extra: str) -> str:
        raise ServiceMissingError(f"{name} of {extra}")

    monkeypatch.setattr(opensearch, "find_python_package", missing)
    for ask in (_namespace().client, OpenSearchService().providers[0].find):
        with pytest.raises(ServiceMissingError, match="opensearch-py of testkit-opensearch"):
            ask()


def test_auto_never_takes_a_container_where_a_service_has_a_process() -> None:
    for service in make_services().values():
        kinds = [provider.backend for provider in service.providers]
        assert kinds[0] is Backend.PROCESS or Backend.PROCESS not in kinds, service.name
