"""What a failure in opening or closing a namespace leaves undone: nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import pytest

from pratique.testkit.choreography import ok
from pratique.testkit.choreography.upstream import Upstream
from pratique.testkit.errors import ServiceGoneError, UnexpectedAnswerError
from pratique.testkit.services.interface import Backend, Connection, Endpoint
from pratique.testkit.services.opensearch import OpenSearchEndpoint, OpenSearchNamespace
from pratique.testkit.services.registry import RegistryEndpoint, RegistryNamespace
from pratique.testkit.services.registryclient import RegistryClient
from pratique.testkit.services.valkey import ValkeyEndpoint, ValkeyNamespace

pytestmark = pytest.mark.unit

NAME = "pq12ab34n1"
CONNECTION = Connection(url="http://127.0.0.1:1", backend=Backend.PROCESS, provider="fake", version="1")


class FakeAdmin:
    """WireMock's admin API, which refuses what it is told to."""

    def __init__(self, *refused: str) -> None:
        self.refused = refused
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def do(*_: Any) -> None:
            self.done.append(name)
            if name in self.refused:
                raise ServiceGoneError(f"{name} failed")

        return do


def upstream_on(admin: Any) -> Upstream:
    return Upstream(Endpoint(service="wiremock", connection=CONNECTION), admin, NAME)


@pytest.mark.parametrize("refused", ["add_stubs", "ask"])
def test_an_upstream_that_cannot_be_opened_whole_leaves_no_stub(refused: str) -> None:
    admin = FakeAdmin(refused)
    with pytest.raises(ServiceGoneError, match=f"{refused} failed"):
        upstream_on(admin).open()
    assert admin.done[-1] == "remove_stubs"


def test_an_upstream_that_was_opened_keeps_its_stub() -> None:
    admin = FakeAdmin()
    upstream_on(admin).open()
    assert admin.done == ["add_stubs", "ask"]


@pytest.mark.parametrize("refused", ["remove_stubs", "forget_requests", "remove_file"])
def test_an_upstream_removes_the_rest_when_one_thing_stays(refused: str) -> None:
    admin = FakeAdmin(refused)
    upstream = upstream_on(admin)
    upstream.script(ok(body=b"x" * 20_000), ok(body=b"y" * 20_000))
    admin.done.clear()
    with pytest.raises(ServiceGoneError, match=f"{refused} failed"):
        upstream.close()
    assert admin.done == ["remove_stubs", "forget_requests", "remove_file", "remove_file"]


class FakeRegistry(RegistryClient):
    """Two repositories of the namespace, with two tags each; one manifest stays."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.left = {(f"{NAME}/{name}", f"sha256:{name}{tag}") for name in "ab" for tag in "12"}

    def repositories(self) -> list[str]:
        return [f"{NAME}/a", f"{NAME}/b", "other"]

    def tags(self, repository: str) -> list[str]:
        return ["1", "2"]

    def digest(self, repository: str, reference: str) -> str:
        return f"sha256:{repository[-1]}{reference}"

    def delete_manifest(self, repository: str, digest: str) -> None:
        if digest == "sha256:b1":
            raise UnexpectedAnswerError("stuck")
        self.left.discard((repository, digest))


def test_a_registry_removes_the_rest_when_one_manifest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRegistry()
    monkeypatch.setattr(RegistryEndpoint, "client", lambda self: fake)
    namespace = RegistryNamespace(RegistryEndpoint(service="registry", connection=CONNECTION), NAME)
    with pytest.raises(UnexpectedAnswerError, match="stuck"):
        namespace.close()
    assert fake.left == {(f"{NAME}/b", "sha256:b1")}


class FakeValkey:
    """One database with a key; the user stays."""

    def __init__(self, *, info_fails: bool = False) -> None:
        self.keys = {f"{NAME}:a".encode()}
        self.done: list[str] = []

    def execute_command(self, *words: str) -> None:
        raise ConnectionError(" ".join(words[:2]))

    def info(self, section: str) -> dict[str, Any]:
        return {"db0": {}}

    def get_connection_kwargs(self) -> dict[str, Any]:
        return {}

    def scan_iter(self, **_: Any) -> list[bytes]:
        return list(self.keys)

    def unlink(self, *keys: bytes) -> None:
        self.keys -= set(keys)


def test_valkey_removes_the_keys_when_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeValkey()
    monkeypatch.setattr(ValkeyEndpoint, "admin", fake)
    namespace = ValkeyNamespace(ValkeyEndpoint(service="valkey", connection=CONNECTION), NAME)
    with pytest.raises(ConnectionError, match="ACL DELUSER"):
        namespace.close()
    assert fake.keys == set()


class FakeIndices:
    """One index with an alias, a data stream and two templates; none of it can be removed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def delete(**_: Any) -> None:
            self.asked.append(name)
            raise OSError(f"{name} refused")

        return delete

    def get_alias(self, **_: Any) -> dict[str, Any]:
        return {f"{NAME}-a": {"aliases": {f"{NAME}-x": {}}}}

    def get_index_template(self, **_: Any) -> dict[str, Any]:
        return {"index_templates": [{"name": f"{NAME}-t"}, {"name": f"{NAME}-u"}]}

    def get_data_stream(self, **_: Any) -> dict[str, Any]:
        return {"data_streams": [{"name": f"{NAME}-s"}]}


class FakeOpenSearch:
    """A client of a cluster that refuses every deletion."""

    def __init__(self) -> None:
        self.indices = FakeIndices()
        self.closed = 0

    @property
    def cat(self) -> Any:
        return SimpleNamespace(indices=lambda **_: [{"index": f"{NAME}-a"}])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed += 1


def test_opensearch_tries_the_rest_when_one_thing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeOpenSearch()
    monkeypatch.setattr(OpenSearchEndpoint, "client", lambda self: fake)
    namespace = OpenSearchNamespace(OpenSearchEndpoint(service="opensearch", connection=CONNECTION), NAME)
    namespace.client()
    with pytest.raises(OSError, match="refused"):
        namespace.close()
    one_each = ["delete_data_stream", "delete_alias", "delete"]
    assert fake.indices.asked == [*one_each, "delete_index_template", "delete_index_template"]
    assert fake.closed == 2
