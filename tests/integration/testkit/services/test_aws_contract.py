"""What holds of the servers behind all four services: one for a run, on its own port, in its own folder."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pratique.core import procfs
from pratique.testkit.fixtures import kit_of
from pratique.testkit.services.aws.kinesis import KinesisNamespace
from pratique.testkit.services.aws.ledger import Ledger
from pratique.testkit.services.interface import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.kit import PrivateServer
    from pratique.testkit.services.aws.kinesis import KinesisEndpoint
    from pratique.testkit.services.interface import Endpoint

pytestmark = pytest.mark.integration

SERVICES = ("dynamodb", "s3", "sqs", "kinesis")
LISTEN = "0A"


@pytest.mark.parametrize("provider", ["ministack", "moto"])
def test_one_server_has_all_four_services(pytestconfig: pytest.Config, provider: str) -> None:
    kit = kit_of(pytestconfig)
    endpoints = [kit.endpoint(service, provider) for service in SERVICES]
    assert len({endpoint.url for endpoint in endpoints}) == 1
    assert {endpoint.connection.key.rpartition("-")[0] for endpoint in endpoints} == {provider}
    assert {endpoint.version for endpoint in endpoints} != {""}


def open_files(pid: int) -> set[str]:
    files = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            files.add(str(entry.readlink()))
    return files


def listening_addresses(pid: int) -> set[str]:
    sockets = {
        file.removeprefix("socket:[").removesuffix("]") for file in open_files(pid) if file.startswith("socket:[")
    }
    lines = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return {fields[1] for fields in lines if fields[3] == LISTEN and fields[9] in sockets}


@pytest.mark.parametrize(
    ("service", "provider"), [("s3", "ministack"), ("s3", "moto"), ("dynamodb", "dynalite")], ids=lambda word: word
)
def test_a_server_listens_on_its_own_loopback_port_only_and_writes_only_into_its_folder(
    pytestconfig: pytest.Config, pratique_launch: Callable[..., PrivateServer[Any]], service: str, provider: str
) -> None:
    server = pratique_launch(service, use=provider)
    running = next(one for one in kit_of(pytestconfig).host.status().servers if one.key == server.key)
    tree = {running.pid} | procfs.descendants(procfs.list_processes(), running.pid)
    addresses = {address for pid in tree for address in listening_addresses(pid)}
    assert addresses == {f"0100007F:{server.endpoint.port:04X}"}
    # Their pid files, data and logs would be in shared folders by default.
    assert not list(Path("/tmp").glob(f"ministack*{server.endpoint.port}*"))  # noqa: S108 - where it must not be
    written = {file for pid in tree for file in open_files(pid) if file.startswith("/tmp/")}  # noqa: S108 - as above
    assert all(path.startswith(running.folder) for path in written)


def test_a_mistake_of_a_probe_does_not_pass_for_a_gap(
    hold_to_gaps: Callable[..., None], pratique_kinesis: KinesisEndpoint
) -> None:
    connection = replace(pratique_kinesis.connection, gaps={"depth": "it is shallow"})
    namespace = KinesisNamespace(
        replace(pratique_kinesis, connection=connection), "pq00ff00n1", Ledger(operation="", parameter="")
    )

    def mistaken(streams: KinesisNamespace) -> None:
        streams.client().describe_stream(StreamName=streams.stream("never-made"))

    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        hold_to_gaps(namespace, "depth", mistaken)
    hold_to_gaps(namespace, "depth", mistaken, "ResourceNotFoundException")
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        hold_to_gaps(namespace, "depth", lambda _: None)


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_that_is_named_by_its_url_serves_as_well(pytestconfig: pytest.Config, service: str) -> None:
    kit = kit_of(pytestconfig)
    url = kit.endpoint(service, "ministack").url
    endpoint: Endpoint = kit.endpoint(service, url)
    assert endpoint.backend is Backend.URL
    with kit.namespace(endpoint, "a test") as namespace:
        assert namespace.leaks() == []
