"""Who can provide the four services, and what is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import ServiceMissingError, ServiceStartError
from pratique.testkit.host.launch import ContainerLaunch, ProcessLaunch, key_of
from pratique.testkit.ports import reserved_port
from pratique.testkit.recording import Recording, ReplayServer
from pratique.testkit.services.aws import fidelity, servers
from pratique.testkit.services.catalogue import make_services
from pratique.testkit.services.interface import Backend, Connection, Found

if TYPE_CHECKING:
    from pratique.testkit.services.interface import Provider

pytestmark = pytest.mark.unit

NOTHING = Recording(about="a", server="S", version="1", origin="transcribed", sources=(), exchanges=())

NAMES = ("dynamodb", "s3", "sqs", "kinesis")


@pytest.fixture(params=NAMES)
def service(request: pytest.FixtureRequest) -> Any:
    return make_services()[request.param]


def found(provider: Provider) -> Found:
    return provider.find()


def test_ministack_is_the_first_choice_and_names_are_unique(service: Any) -> None:
    names = [provider.name for provider in service.providers]
    assert names[0] == "ministack"
    assert len(set(names)) == len(names)


def test_every_gap_is_a_capability_and_is_explained(service: Any) -> None:
    for provider in service.providers:
        assert set(provider.gaps) <= set(service.capabilities)
        assert all(provider.gaps.values())


def test_a_provider_without_a_record_of_its_gaps_is_refused() -> None:
    with pytest.raises(KeyError):
        fidelity.gaps_of("dynamodb", "unheard-of")


@pytest.mark.parametrize("provider", ["ministack", "moto"])
def test_the_services_of_one_server_name_the_same_key(provider: str) -> None:
    services = make_services()
    chosen = [next(one for one in services[name].providers if one.name == provider) for name in NAMES]
    assert len({key_of(one.server, found(one).launch) for one in chosen}) == 1


@pytest.mark.parametrize("make", [servers.ministack, servers.moto])
def test_a_launch_binds_loopback_and_its_own_port_and_reaches_no_container_engine(make: Any) -> None:
    launch = found(make({})).launch
    assert isinstance(launch, ProcessLaunch)
    words = [*launch.command, *launch.environment.values()]
    assert "127.0.0.1" in words
    assert "{port}" in words
    assert launch.environment["DOCKER_HOST"].startswith("unix://{folder}/")
    assert launch.environment["TMPDIR"] == "{folder}"


def test_dynalite_is_quick_and_says_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "dynalite"
    package.mkdir(parents=True)
    (package / "cli.js").touch()
    (package / "package.json").write_text('{"name": "dynalite", "version": "4.0.0"}')
    monkeypatch.setenv("PRATIQUE_TESTKIT_TOOLS", str(tmp_path))
    monkeypatch.setattr(servers, "find_program", lambda name, hint: f"/bin/{name}: {hint}"[:9])
    monkeypatch.chdir(tmp_path)
    here = found(servers.dynalite({}))
    assert here.version == "4.0.0"
    assert isinstance(here.launch, ProcessLaunch)
    assert here.launch.command[:4] == ("/bin/node", str(package / "cli.js"), "--host", "127.0.0.1")


def test_without_node_dynalite_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServiceMissingError, match="node"):
        found(servers.dynalite({}))


@pytest.mark.parametrize("make", [servers.dynamodb_local, servers.ministack_container])
def test_a_container_needs_an_engine_and_has_a_pinned_image(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pratique.testkit.host import container

    def refuse() -> None:
        raise ServiceMissingError("no engine")

    monkeypatch.setattr(container, "require_engine", refuse)
    with pytest.raises(ServiceMissingError, match="no engine"):
        found(make({}))
    monkeypatch.setattr(container, "require_engine", lambda: None)
    here = found(make({}))
    assert isinstance(here.launch, ContainerLaunch)
    assert here.version == here.launch.image.rpartition(":")[2]
    assert here.version != "latest"


def test_an_endpoint_by_url_says_that_its_version_is_unknown(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore import handlers

    monkeypatch.setattr(handlers, "BUILTIN_HANDLERS", [])
    with ReplayServer(NOTHING) as server:  # it refuses all, in HTTP
        connection = Connection(url=server.url, backend=Backend.URL, provider="url")
        endpoint = service.connect(connection)
    assert (endpoint.version, endpoint.service, endpoint.url) == ("unknown", service.name, connection.url)
    namespace = service.namespace(endpoint, "pq12abn1")
    assert (namespace.prefix, namespace.url) == ("pq12abn1-", connection.url)
    assert namespace.environment() == endpoint.environment()


def test_a_url_where_nobody_answers_is_refused_before_any_test_uses_it(service: Any) -> None:
    with reserved_port() as port:
        connection = Connection(url=f"http://127.0.0.1:{port}", backend=Backend.URL, provider="url")
        with pytest.raises(
            ServiceStartError, match=f"Nobody answers as {service.title} at {connection.url}: "
        ) as raised:
            service.connect(connection)
    assert raised.value.hint is not None
    assert raised.value.hint.endswith("Is it running?")


@pytest.mark.parametrize("name", NAMES)
def test_every_capability_and_gap_is_documented(name: str) -> None:
    page = (Path(__file__).parents[4] / "docs" / "testkit" / "aws.md").read_text(encoding="utf-8")
    service = make_services()[name]
    missing = [word for word, meaning in service.capabilities.items() if f"`{word}`: {meaning}" not in page]
    gaps = {gap for provider in service.providers for gap in provider.gaps.values()}
    assert not missing
    assert not [gap for gap in gaps if gap not in page]
