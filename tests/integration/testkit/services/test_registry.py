"""The OCI registry: what a push keeps, what it does not refuse, what a namespace removes, what a test leaks."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import ServiceGoneError, ServiceStartError, UnexpectedAnswerError
from pratique.testkit.fixtures import server_fixture
from pratique.testkit.services.http import ask
from pratique.testkit.services.interface import Backend, Connection
from pratique.testkit.services.registry import RegistryService
from pratique.testkit.services.registryclient import MANIFEST, RegistryClient

if TYPE_CHECKING:
    from pratique.testkit.fixtures import Launcher
    from pratique.testkit.services.registry import RegistryEndpoint, RegistryNamespace

pytestmark = pytest.mark.integration

# Where the run has a registry by its URL, nothing is known of its gaps, and no private one can be made of it.
pratique_registry = server_fixture("registry", use="auto")


def test_an_image_that_was_pushed_is_read_back_by_tag_and_by_digest(registry: RegistryNamespace) -> None:
    pushed = registry.push_image("orchestrator", "v1", layers=[b"first", b"second"])
    repository = registry.repository("orchestrator")
    by_tag = registry.client().manifest(repository, "v1")
    assert by_tag == registry.client().manifest(repository, pushed.digest)
    assert by_tag.media_type == MANIFEST
    assert by_tag.digest == pushed.digest == "sha256:" + hashlib.sha256(by_tag.body).hexdigest()
    layers = by_tag.json()["layers"]
    assert [registry.client().blob(repository, layer["digest"]) for layer in layers] == [b"first", b"second"]
    assert registry.client().tags(repository) == ["v1"]


def test_references_name_the_registry_and_the_namespace(registry: RegistryNamespace) -> None:
    address = f"127.0.0.1:{registry.endpoint.port}"
    assert registry.reference("orchestrator", "v1") == f"{address}/{registry.name}/orchestrator:v1"
    assert registry.reference("orchestrator", "sha256:00").endswith("/orchestrator@sha256:00")


def test_a_manifest_whose_blobs_are_missing_is_refused_with_what_the_registry_said(registry: RegistryNamespace) -> None:
    nowhere = {"mediaType": "application/octet-stream", "digest": "sha256:" + "0" * 64, "size": 1}
    body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": nowhere, "layers": []}).encode()
    with pytest.raises(UnexpectedAnswerError, match="BLOB_UNKNOWN") as caught:
        registry.client().push_manifest(registry.repository("broken"), "v1", body)
    assert caught.value.status == 400


def test_a_manifest_that_was_deleted_is_gone_with_its_tags(registry: RegistryNamespace) -> None:
    pushed = registry.push_image("a", "v1")
    registry.client().delete_manifest(registry.repository("a"), pushed.digest)
    registry.client().delete_manifest(registry.repository("a"), pushed.digest)
    assert registry.client().digest(registry.repository("a"), "v1") is None
    assert registry.client().tags(registry.repository("a")) == []
    assert registry.client().tags(registry.repository("never")) == []


def test_lists_of_more_than_a_page_are_whole(pratique_launch: Launcher) -> None:
    client: RegistryClient = pratique_launch("registry", "auto").endpoint.client()
    names = [f"many/r{number:03}" for number in range(120)]
    for name in names:
        client.push_blob(name, b"x")
    assert client.repositories() == names


def test_closing_a_namespace_removes_its_images_and_nobody_elses(pratique_launch: Launcher) -> None:
    endpoint = pratique_launch("registry", "auto").endpoint
    mine, other = (RegistryService().namespace(endpoint, name) for name in ("pqaaaaaan1", "pqaaaaaan10"))
    mine.open()
    other.open()
    first = mine.push_image("app", "v1", layers=[b"1"])
    mine.push_image("app", "v1", layers=[b"2"])  # the tag leads here now
    endpoint.client().push_image(mine.repository("app"), "beside", layers=[b"3"])  # not through the namespace
    kept = other.push_image("app", "v1")
    mine.close()
    assert endpoint.client().tags(mine.repository("app")) == []
    assert endpoint.client().digest(mine.repository("app"), first.digest) is None
    assert endpoint.client().digest(other.repository("app"), "v1") == kept.digest


def test_a_repository_outside_every_namespace_is_a_leak_and_one_that_was_there_is_none(
    pratique_launch: Launcher,
) -> None:
    endpoint = pratique_launch("registry", "auto").endpoint
    endpoint.client().push_blob("before", b"x")
    namespace = RegistryService().namespace(endpoint, "pqaaaaaan1")
    namespace.open()
    namespace.push_image("mine")
    endpoint.client().push_blob("pqbbbbbbn1/others", b"x")
    assert namespace.leaks() == []
    endpoint.client().push_blob("orchestrator", b"x")
    assert namespace.leaks() == ["repository 'orchestrator', made outside its namespace (pqaaaaaan1/)"]


# What the back end does not show, as its gaps say; a back end that shows it must not claim the gap.


def test_a_missing_referrers_api_is_declared(registry: RegistryNamespace) -> None:
    pushed = registry.push_image("signed")
    answer = ask("GET", f"{registry.endpoint.url}/v2/{registry.repository('signed')}/referrers/{pushed.digest}")
    assert (answer.status == 200) is registry.endpoint.supports("referrers")


def test_a_tag_that_is_overwritten_is_declared(registry: RegistryNamespace) -> None:
    first = registry.push_image("moving", layers=[b"1"])
    registry.client().push_image(registry.repository("moving"), "latest", layers=[b"2"])
    stayed = registry.client().digest(registry.repository("moving"), "latest") == first.digest
    assert stayed is registry.endpoint.supports("immutable_tags")


def test_an_ignored_condition_is_declared(registry: RegistryNamespace) -> None:
    registry.push_image("once", layers=[b"1"])
    other = registry.push_image("once", "other", layers=[b"2"])
    body = registry.client().manifest(registry.repository("once"), other.digest).body
    headers = {"Content-Type": MANIFEST, "If-None-Match": "*"}
    url = f"{registry.endpoint.url}/v2/{registry.repository('once')}/manifests/latest"
    answer = ask("PUT", url, body=body, headers=headers)
    assert (answer.status != 201) is registry.endpoint.supports("conditional_writes")


def test_a_registry_given_by_its_url_is_asked_what_it_speaks(pratique_registry: RegistryEndpoint) -> None:
    given = Connection(url=pratique_registry.url, backend=Backend.URL, provider="url")
    assert RegistryService().connect(given).version == "registry/2.0"


def test_an_address_where_no_registry_answers_is_refused(pratique_valkey: Any) -> None:
    given = Connection(url=f"http://127.0.0.1:{pratique_valkey.port}", backend=Backend.URL, provider="url")
    with pytest.raises(ServiceStartError, match="Nobody answers as an OCI registry"):
        RegistryService().connect(given)


def test_a_private_registry_that_is_killed_comes_back_with_what_it_had(pratique_launch: Launcher) -> None:
    server = pratique_launch("registry", "auto")
    pushed = server.endpoint.client().push_image("kept", "v1")
    server.kill()
    with pytest.raises(ServiceGoneError, match=r"The registry at http://127\.0\.0\.1:\d+ does not answer: "):
        server.endpoint.client().ping()
    server.restart()
    assert server.endpoint.client().digest("kept", "v1") == pushed.digest
