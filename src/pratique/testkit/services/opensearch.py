"""OpenSearch: a container, or a URL. No native process: it needs a Java of its own and a gigabyte of disk.

A namespace is a prefix: of indices, and so of aliases, index templates and data streams, which are all looked up by
name. Every namespace of every run has another one. Nothing on the server keeps a test from other names, so the leak
check looks for what appeared there, where nobody else uses the server.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import TestkitUsageError, UnexpectedAnswerError
from pratique.testkit.host.launch import ContainerLaunch, HttpReady
from pratique.testkit.services.http import nobody_answers
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Found, Provider
from pratique.testkit.services.names import is_of_kit
from pratique.testkit.services.tools import find_python_package

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opensearchpy import OpenSearch

__all__ = ["OpenSearchEndpoint", "OpenSearchNamespace", "OpenSearchService", "foreign_names"]

_IMAGE: Final = "docker.io/opensearchproject/opensearch:2.19.3"
_TIMEOUT_SECONDS: Final = 30.0
_START_SECONDS: Final = 180.0
_NAME_CHARACTERS: Final = 255
_BAD_IN_NAMES: Final = frozenset(':"*+/\\|?#<>, ')
_SERVER_NAMES: Final = re.compile(r"\.|top_queries-|security-auditlog-|ss4o_")
"""What the server and its plugins make by themselves."""
_ENVIRONMENT: Final = {
    "discovery.type": "single-node",
    "DISABLE_SECURITY_PLUGIN": "true",
    "DISABLE_INSTALL_DEMO_CONFIG": "true",
    "DISABLE_PERFORMANCE_ANALYZER_AGENT_CLI": "true",
    "OPENSEARCH_JAVA_OPTS": "-Xms512m -Xmx512m",
    # A disk that is nearly full makes indices read-only: not what a test of something else should fail on.
    "cluster.routing.allocation.disk.threshold_enabled": "false",
}
_GAPS: Final = {
    "kuromoji": "the plain image has no analysis-kuromoji plugin",
    "security": "the security plugin is off: no users, roles or TLS",
    "replicas": "one node: a replica is never assigned, and an index that has one stays yellow",
}


@dataclass(frozen=True, kw_only=True)
class OpenSearchEndpoint(Endpoint):
    """A cluster shared by the whole run. Use a namespace of it, not the cluster itself, where others run beside you."""

    def client(self, **options: Any) -> OpenSearch:  # noqa: ANN401 - opensearch-py's own options
        """Return an opensearch-py client; its options are passed on. It is the caller's to close."""
        find_python_package("opensearch-py", extra="testkit-opensearch")
        from opensearchpy import OpenSearch

        # Retries would hide what a test is about: how often something was asked.
        return OpenSearch(hosts=[self.url], **{"timeout": _TIMEOUT_SECONDS, "max_retries": 0, **options})


class OpenSearchNamespace:
    """Everything whose name begins with one prefix."""

    def __init__(self, endpoint: OpenSearchEndpoint, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self.prefix = f"{name}-"
        self._clients: list[OpenSearch] = []
        self._before: frozenset[str] = frozenset()

    @property
    def url(self) -> str:
        """The server's address; the prefix goes with the names."""
        return self.endpoint.url

    def index(self, name: str) -> str:
        """Return a name of this namespace: for an index, an alias, a template or a data stream.

        Raises:
            TestkitUsageError: OpenSearch takes no such name.
        """
        full = self.prefix + name
        if not name or full != full.lower() or _BAD_IN_NAMES & set(full) or len(full.encode()) > _NAME_CHARACTERS:
            raise TestkitUsageError(
                f"OpenSearch takes no index named '{full[:300]}'.",
                hint="Lower case, at most 255 bytes, and none of " + " ".join(sorted(_BAD_IN_NAMES - {" "})) + ".",
            )
        return full

    def client(self, **options: Any) -> OpenSearch:  # noqa: ANN401 - opensearch-py's own options
        """Return a client; it is closed with the namespace."""
        client = self.endpoint.client(**options)
        self._clients.append(client)
        return client

    def open(self) -> None:
        if self.endpoint.is_alone:
            self._before = frozenset(self._foreign())

    def leaks(self) -> list[str]:
        """Return what appeared outside every namespace. Beside other workers, or by URL: nothing, it may be theirs."""
        appeared = set(self._foreign()) - self._before if self.endpoint.is_alone else ()
        return [f"{what}, made outside its namespace ({self.prefix}) while it ran" for what in sorted(appeared)]

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # one that cannot be removed keeps no other; the last goes first
            for mine in self._clients:
                stack.callback(mine.close)
            client = stack.enter_context(self.endpoint.client())
            for remove in (self._remove_templates, self._remove_indices, self._remove_aliases, self._remove_streams):
                stack.callback(remove, client)

    def _remove_streams(self, client: OpenSearch) -> None:
        with contextlib.ExitStack() as stack:
            for stream in _data_streams(client, f"{self.prefix}*"):
                stack.callback(client.indices.delete_data_stream, name=stream)

    def _remove_aliases(self, client: OpenSearch) -> None:
        with contextlib.ExitStack() as stack:
            for index, aliases in client.indices.get_alias(name=f"{self.prefix}*", params=_ALL).items():
                for alias in aliases["aliases"]:
                    stack.callback(client.indices.delete_alias, index=index, name=alias)

    def _remove_indices(self, client: OpenSearch) -> None:
        with contextlib.ExitStack() as stack:
            for index in _indices(client, f"{self.prefix}*"):
                stack.callback(client.indices.delete, index=index, params={"ignore_unavailable": "true"})

    def _remove_templates(self, client: OpenSearch) -> None:
        with contextlib.ExitStack() as stack:
            for template in _templates(client, f"{self.prefix}*"):
                stack.callback(client.indices.delete_index_template, name=template)

    def _foreign(self) -> list[str]:
        with self.endpoint.client() as client:
            indices = [f"index '{name}'" for name in foreign_names(_indices(client, "*"))]
            return indices + [f"index template '{name}'" for name in foreign_names(_templates(client, "*"))]


class OpenSearchService:
    """OpenSearch."""

    name = "opensearch"
    title = "OpenSearch"
    starts_early = False
    capabilities = {  # noqa: RUF012 - a Protocol's attribute
        "mapping_conflicts": "a field keeps its type: other mappings and documents that do not fit are refused",
        "refresh": "a document can be read at once and is found by a search only after a refresh",
        "kuromoji": "the Japanese analyzer (plugin analysis-kuromoji)",
        "security": "users, roles, TLS",
        "replicas": "more nodes than one",
    }

    def __init__(self) -> None:
        self.providers = (
            Provider(name="opensearch-container", backend=Backend.CONTAINER, find=_find_container, gaps=_GAPS),
        )

    def connect(self, connection: Connection) -> OpenSearchEndpoint:
        endpoint = OpenSearchEndpoint(service=self.name, connection=connection)
        with endpoint.client() as client:
            from opensearchpy.exceptions import OpenSearchException

            try:
                number = _read_version(client.info())
            except (OpenSearchException, UnexpectedAnswerError) as error:
                raise nobody_answers("OpenSearch", endpoint.url, error) from error
        return replace(endpoint, connection=replace(connection, version=number))

    def namespace(self, endpoint: OpenSearchEndpoint, name: str) -> OpenSearchNamespace:
        return OpenSearchNamespace(endpoint, name)


_ALL: Final = {"expand_wildcards": "all"}


def foreign_names(names: Iterable[str]) -> list[str]:
    """Return the names that belong to no namespace and not to the server either."""
    return [name for name in names if not is_of_kit(name, "-") and not _SERVER_NAMES.match(name)]


def _read_version(about: Any) -> str:  # noqa: ANN401 - whatever it says
    try:
        number, kind = about["version"]["number"], about["version"].get("distribution", "unknown distribution")
    except (KeyError, TypeError, AttributeError) as error:
        raise UnexpectedAnswerError(f"Expected OpenSearch's version, got: {str(about)[:300]}") from error
    # Other servers speak this protocol; their version must not pass for one of OpenSearch.
    return str(number) if kind == "opensearch" else f"{kind} {number}"


def _indices(client: OpenSearch, pattern: str) -> list[str]:
    rows = client.cat.indices(index=pattern, format="json", params={"h": "index", **_ALL})
    return [row["index"] for row in rows]


def _templates(client: OpenSearch, pattern: str) -> list[str]:
    return [one["name"] for one in client.indices.get_index_template(name=pattern)["index_templates"]]


def _data_streams(client: OpenSearch, pattern: str) -> list[str]:
    return [one["name"] for one in client.indices.get_data_stream(name=pattern)["data_streams"]]


def _find_container() -> Found:
    find_python_package("opensearch-py", extra="testkit-opensearch")
    from pratique.testkit.host.container import require_engine

    require_engine()
    ready = HttpReady(path="/_cluster/health?wait_for_status=yellow&timeout=1s")
    launch = ContainerLaunch(
        image=_IMAGE, port=9200, ready=ready, environment=dict(_ENVIRONMENT), start_seconds=_START_SECONDS
    )
    return Found(launch=launch, version=_IMAGE.rpartition(":")[2])
