"""Namespaces in Kinesis: streams can be used at once, and are removed with their consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.testkit.fixtures import server_fixture
from pratique.testkit.services.aws.kinesis import KinesisNamespace
from pratique.testkit.services.aws.ledger import Ledger

if TYPE_CHECKING:
    from pratique.testkit.services.aws.kinesis import KinesisEndpoint

pytestmark = pytest.mark.integration

moto = server_fixture("kinesis", use="moto")


@pytest.mark.parametrize("server", ["pratique_kinesis", "moto"])
def test_streams_are_made_and_removed_also_where_one_is_gone_already(
    request: pytest.FixtureRequest, server: str
) -> None:
    endpoint: KinesisEndpoint = request.getfixturevalue(server)
    ledger = Ledger(operation="kinesis.CreateStream", parameter="StreamName")
    namespace = KinesisNamespace(endpoint, "pq00ff00n1", ledger)
    namespace.open()
    client = namespace.client()
    events, gone = namespace.create_stream("events", shards=2), namespace.create_stream("gone")
    client.put_record(StreamName=events, Data=b"at once", PartitionKey="k")
    arn = client.describe_stream_summary(StreamName=events)["StreamDescriptionSummary"]["StreamARN"]
    client.register_stream_consumer(StreamARN=arn, ConsumerName="reader")
    namespace.leaks()
    client.delete_stream(StreamName=gone)
    namespace.close()
    assert not [name for name in client.list_streams()["StreamNames"] if name.startswith(namespace.prefix)]


def test_the_fixture_gives_a_namespace(kinesis: KinesisNamespace) -> None:
    stream = kinesis.create_stream("events")
    assert stream == kinesis.stream("events")
    assert kinesis.environment()["AWS_ENDPOINT_URL_KINESIS"] == kinesis.url
