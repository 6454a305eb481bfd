"""OpenSearch by its real client: against recorded answers everywhere, against a real server where there is one.

    pytest tests/integration/testkit/services/test_opensearch.py --pratique-opensearch=http://127.0.0.1:9200

checks the recordings for drift (a container engine does as well); PRATIQUE_RECORD=1 writes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pratique.testkit.errors import ServiceStartError
from pratique.testkit.recording import Recording, ReplayServer, ask_again, drift, load_recording
from pratique.testkit.services.interface import Backend, Connection
from pratique.testkit.services.opensearch import OpenSearchEndpoint, OpenSearchNamespace, OpenSearchService

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

_FOLDER = Path(__file__).parent / "recorded" / "opensearch"
_FILES = sorted(_FOLDER.glob("*.json"))


def _recording(name: str) -> Recording:
    return load_recording(_FOLDER / f"{name}.json")


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> Iterator[ReplayServer]:
    """A server that answers from the recording which the test is parametrized with."""
    with ReplayServer(_recording(request.param)) as server:
        yield server
    assert server.unexpected == []
    assert server.unused == []


def _endpoint(server: ReplayServer) -> OpenSearchEndpoint:
    connection = Connection(url=server.url, backend=Backend.CONTAINER, provider="opensearch-container")
    return OpenSearchEndpoint(service="opensearch", connection=connection)


def _namespace(server: ReplayServer, name: str = "pqabcdefn1") -> OpenSearchNamespace:
    return OpenSearchNamespace(_endpoint(server), name)


@pytest.mark.parametrize("replay", ["info"], indirect=True)
def test_version_is_the_servers(replay: ReplayServer) -> None:
    connection = Connection(url=replay.url, backend=Backend.CONTAINER, provider="opensearch-container", version="9")
    assert OpenSearchService().connect(connection).version == "2.9.0"


def test_another_kind_of_server_is_told_by_its_version() -> None:
    recording = _recording("info")
    body = msgspec.json.decode(msgspec.json.encode(recording.exchanges[0].answer.body))
    del body["version"]["distribution"]
    answer = msgspec.structs.replace(recording.exchanges[0].answer, body=body)
    exchange = msgspec.structs.replace(recording.exchanges[0], answer=answer)
    with ReplayServer(msgspec.structs.replace(recording, exchanges=(exchange,))) as server:
        connection = Connection(url=server.url, backend=Backend.URL, provider="url")
        assert OpenSearchService().connect(connection).version == "unknown distribution 2.9.0"


@pytest.mark.parametrize("body", [None, {}, {"version": "2.9.0"}, {"version": {}}, [], "It works!"], ids=repr)
def test_a_server_that_is_something_else_is_refused_with_what_it_said(body: Any) -> None:
    recording = _recording("info")
    answer = msgspec.structs.replace(recording.exchanges[0].answer, body=body)
    exchange = msgspec.structs.replace(recording.exchanges[0], answer=answer)
    with ReplayServer(msgspec.structs.replace(recording, exchanges=(exchange,))) as server:
        given = Connection(url=server.url, backend=Backend.URL, provider="url")
        with pytest.raises(ServiceStartError, match=f"Nobody answers as OpenSearch at {server.url}: "):
            OpenSearchService().connect(given)


def _clear(client: Any) -> None:
    client.indices.delete(index="pqabcdefn1-*", params={"ignore_unavailable": "true", "expand_wildcards": "all"})


def _create(client: Any, index: str) -> None:
    settings = {"number_of_replicas": 0, "refresh_interval": "-1"}
    client.indices.create(
        index=index, body={"mappings": {"properties": {"price": {"type": "long"}}}, "settings": settings}
    )


@pytest.mark.parametrize("replay", ["mapping_conflict"], indirect=True)
def test_field_keeps_its_type_in_mappings_and_documents(replay: ReplayServer) -> None:
    from opensearchpy.exceptions import NotFoundError, RequestError

    namespace = _namespace(replay)
    products = namespace.index("products")
    with namespace.client() as client:
        _clear(client)
        _create(client, products)
        with pytest.raises(RequestError) as mapping:
            client.indices.put_mapping(index=products, body={"properties": {"price": {"type": "text"}}})
        assert mapping.value.status_code == 400
        assert mapping.value.error == "illegal_argument_exception"
        assert "[price] cannot be changed from type [long] to [text]" in str(mapping.value)
        with pytest.raises(RequestError) as document:
            client.index(index=products, id="1", body={"price": "cheap"})
        assert document.value.error == "mapper_parsing_exception"
        with pytest.raises(NotFoundError):
            client.get(index=products, id="1")
        _clear(client)


@pytest.mark.parametrize("replay", ["refresh"], indirect=True)
def test_document_is_read_at_once_and_found_only_after_a_refresh(replay: ReplayServer) -> None:
    namespace = _namespace(replay)
    products = namespace.index("products")
    everything: dict[str, Any] = {"query": {"match_all": {}}}
    with namespace.client() as client:
        _clear(client)
        _create(client, products)
        assert client.index(index=products, id="1", body={"price": 5})["result"] == "created"
        assert client.search(index=products, body=everything)["hits"]["hits"] == []
        assert client.get(index=products, id="1")["_source"] == {"price": 5}
        client.indices.refresh(index=products)
        assert client.search(index=products, body=everything)["hits"]["total"]["value"] == 1
        _clear(client)


@pytest.mark.parametrize("replay", ["namespace"], indirect=True)
def test_closing_removes_everything_with_the_prefix_and_leaks_are_what_has_none(replay: ReplayServer) -> None:
    namespace = _namespace(replay)
    plain = {"settings": {"number_of_replicas": 0}}
    namespace.open()
    with namespace.client() as client:
        _create(client, namespace.index("products"))
        client.indices.create(index="pqabcdefn9-stray", body=plain)  # another namespace's
        client.indices.create(index="stray_pqabcdefn1", body=plain)
        client.indices.put_alias(index="stray_pqabcdefn1", name=namespace.index("alias"))
        ordinary: dict[str, Any] = {"index_patterns": ["pqabcdefn1-t*"], "template": plain}
        for_streams = {"index_patterns": ["pqabcdefn1-s*"], "template": plain, "data_stream": {}}
        client.indices.put_index_template(name=namespace.index("t"), body=ordinary)
        client.indices.put_index_template(name=namespace.index("s"), body=for_streams)
        client.indices.create_data_stream(name=namespace.index("stream"))
        assert namespace.leaks() == ["index 'stray_pqabcdefn1', made outside its namespace (pqabcdefn1-) while it ran"]
        namespace.close()
    with namespace.endpoint.client() as client:
        client.indices.delete(index="stray_pqabcdefn1,pqabcdefn9-stray", params={"ignore_unavailable": "true"})


@pytest.mark.parametrize("replay", ["nothing"], indirect=True)
def test_closing_an_empty_namespace_removes_nothing(replay: ReplayServer) -> None:
    _namespace(replay, "pqabcdefn2").close()


def test_namespace_that_cannot_be_removed_says_what_the_server_answered() -> None:
    from opensearchpy.exceptions import TransportError

    recording = msgspec.structs.replace(_recording("nothing"), exchanges=())
    with ReplayServer(recording) as server, pytest.raises(TransportError, match=r"501.*not recorded"):
        _namespace(server).close()


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_recording_asked_again_of_its_own_replay_has_no_drift(path: Path) -> None:
    recording = load_recording(path)
    with ReplayServer(recording) as server:
        again = ask_again(recording, server.url, version=recording.version, how="its replay")
    assert drift(recording, again) == []
    assert again.origin == "captured"


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_recording_says_where_it_is_from(path: Path) -> None:
    recording = load_recording(path)
    assert recording.sources
    assert recording.origin == "captured" or all(source.startswith("https://") for source in recording.sources)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_real_server_still_answers_as_recorded(path: Path, pratique_opensearch: OpenSearchEndpoint) -> None:
    recording = load_recording(path)
    how = f"PRATIQUE_RECORD=1 against {pratique_opensearch.provider} {pratique_opensearch.version}"
    now = ask_again(recording, pratique_opensearch.url, version=pratique_opensearch.version, how=how)
    if os.environ.get("PRATIQUE_RECORD"):
        path.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=2) + b"\n")
        return  # version control shows what is different
    assert drift(recording, now) == []
