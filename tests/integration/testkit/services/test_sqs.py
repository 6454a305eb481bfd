"""Namespaces in SQS: queues of both kinds, removed with their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.testkit.fixtures import server_fixture
from pratique.testkit.services.aws.ledger import Ledger
from pratique.testkit.services.aws.sqs import SQSNamespace

if TYPE_CHECKING:
    from pratique.testkit.services.aws.sqs import SQSEndpoint

pytestmark = pytest.mark.integration

moto = server_fixture("sqs", use="moto")


@pytest.mark.parametrize("server", ["pratique_sqs", "moto"])
def test_queues_are_made_and_removed_also_where_one_is_gone_already(
    request: pytest.FixtureRequest, server: str
) -> None:
    endpoint: SQSEndpoint = request.getfixturevalue(server)
    ledger = Ledger(operation="sqs.CreateQueue", parameter="QueueName")
    namespace, other = SQSNamespace(endpoint, "pq00ff00n1", ledger), SQSNamespace(endpoint, "pq00ff00n11", ledger)
    namespace.open()
    client = namespace.client()
    kept = other.create_queue("jobs")
    jobs, fifo = namespace.create_queue("jobs"), namespace.create_queue("jobs.fifo", VisibilityTimeout="7")
    client.send_message(QueueUrl=jobs, MessageBody="left behind")
    about = client.get_queue_attributes(QueueUrl=fifo, AttributeNames=["FifoQueue", "VisibilityTimeout"])
    assert about["Attributes"] == {"FifoQueue": "true", "VisibilityTimeout": "7"}
    assert namespace.arn(jobs).endswith(f":{namespace.queue('jobs')}")
    namespace.leaks()
    client.delete_queue(QueueUrl=jobs)
    namespace.close()
    assert client.list_queues(QueueNamePrefix="pq00ff00").get("QueueUrls") == [kept]
    other.close()


def test_the_fixture_gives_a_namespace_with_clients_and_resources(sqs: SQSNamespace) -> None:
    queue = sqs.resource().Queue(sqs.create_queue("jobs"))
    queue.send_message(MessageBody="do it")
    assert [message.body for message in queue.receive_messages()] == ["do it"]


async def test_clients_reach_the_server_past_a_proxy_of_the_environment(
    sqs: SQSNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with sqs.async_client() as client:
        assert "QueueUrl" in await client.create_queue(QueueName=sqs.queue("a"))
    assert sqs.client(region_name="us-east-1").list_queues()["QueueUrls"]
    assert list(sqs.resource().queues.all())
