"""What every provider of SQS shows, and that its declared gaps are gaps."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pratique.testkit.fixtures import namespace_fixture, server_fixture
from pratique.testkit.services.aws.fidelity import SQS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.services.aws.sqs import SQSNamespace

pytestmark = pytest.mark.integration

PROBES: dict[str, Callable[[SQSNamespace], None]] = {}

ministack, moto, container = (server_fixture("sqs", use=use) for use in ("ministack", "moto", "ministack-container"))
ministack_queues = namespace_fixture("ministack")
moto_queues = namespace_fixture("moto")
container_queues = namespace_fixture("container")


@pytest.fixture(params=["ministack_queues", "moto_queues", "container_queues"])
def queues(request: pytest.FixtureRequest) -> SQSNamespace:
    found: SQSNamespace = request.getfixturevalue(request.param)
    return found


def probe(function: Callable[[SQSNamespace], None]) -> Callable[[SQSNamespace], None]:
    PROBES[function.__name__] = function
    return function


@pytest.mark.parametrize("capability", sorted(SQS))
def test_a_capability_is_shown_unless_it_is_a_declared_gap(
    queues: SQSNamespace, capability: str, hold_to_gaps: Callable[..., None]
) -> None:
    hold_to_gaps(queues, capability, PROBES[capability])


def receive(queues: SQSNamespace, url: str, *, wait_seconds: int = 0, **more: Any) -> list[Any]:
    answer = queues.client().receive_message(QueueUrl=url, WaitTimeSeconds=wait_seconds, **more)
    return list(answer.get("Messages", []))


def bodies(messages: list[Any]) -> list[str]:
    return [message["Body"] for message in messages]


@probe
def visibility_timeout(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q", VisibilityTimeout="1"), queues.client()
    client.send_message(QueueUrl=url, MessageBody="a")
    first = receive(queues, url)
    assert bodies(first) == ["a"]
    assert receive(queues, url) == []
    again = receive(queues, url, wait_seconds=3)
    assert bodies(again) == ["a"]
    client.delete_message(QueueUrl=url, ReceiptHandle=again[0]["ReceiptHandle"])
    assert receive(queues, url, wait_seconds=2) == []


@probe
def long_polling(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q"), queues.client()
    sender = threading.Timer(0.3, lambda: client.send_message(QueueUrl=url, MessageBody="late"))
    sender.start()
    began = time.monotonic()
    try:
        assert bodies(receive(queues, url, wait_seconds=8)) == ["late"]
    finally:
        sender.join()
    assert 0.25 < time.monotonic() - began < 6


@probe
def delay(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q"), queues.client()
    client.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=1)
    assert receive(queues, url) == []
    assert bodies(receive(queues, url, wait_seconds=4)) == ["later"]


@probe
def dead_letter(queues: SQSNamespace) -> None:
    dead = queues.create_queue("dead")
    policy = json.dumps({"deadLetterTargetArn": queues.arn(dead), "maxReceiveCount": "2"})
    url = queues.create_queue("q", VisibilityTimeout="0", RedrivePolicy=policy)
    queues.client().send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(2):
        assert bodies(receive(queues, url)) == ["poison"]
    assert receive(queues, url) == []
    assert bodies(receive(queues, dead)) == ["poison"]


def send_to_group(queues: SQSNamespace, url: str, group: str, *texts: str) -> None:
    for text in texts:
        queues.client().send_message(
            QueueUrl=url, MessageBody=text, MessageGroupId=group, MessageDeduplicationId=f"{group}{text}"
        )


@probe
def fifo_ordering(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q.fifo"), queues.client()
    send_to_group(queues, url, "one", "1", "2")
    send_to_group(queues, url, "two", "a")
    first = receive(queues, url, MaxNumberOfMessages=1)
    assert bodies(first) == ["1"]
    assert bodies(receive(queues, url, MaxNumberOfMessages=10)) == ["a"], "a group in flight is blocked, others are not"
    client.delete_message(QueueUrl=url, ReceiptHandle=first[0]["ReceiptHandle"])
    assert bodies(receive(queues, url)) == ["2"]


@probe
def fifo_deduplication(queues: SQSNamespace) -> None:
    url = queues.create_queue("q.fifo")
    send_to_group(queues, url, "one", "1", "1")
    assert bodies(receive(queues, url, MaxNumberOfMessages=10)) == ["1"]


@probe
def message_size_limit(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q"), queues.client()
    client.send_message(QueueUrl=url, MessageBody="x" * 1024 * 1024)
    with pytest.raises(ClientError, match=r"InvalidParameterValue|InvalidMessageContents"):
        client.send_message(QueueUrl=url, MessageBody="x" * (1024 * 1024 + 1))


@probe
def batch_limits(queues: SQSNamespace) -> None:
    url = queues.create_queue("q")
    entries: Any = [{"Id": str(number), "MessageBody": "x"} for number in range(11)]
    with pytest.raises(ClientError, match="TooManyEntriesInBatchRequest"):
        queues.client().send_message_batch(QueueUrl=url, Entries=entries)


@probe
def receipt_handles(queues: SQSNamespace) -> None:
    url = queues.create_queue("q")
    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        queues.client().delete_message(QueueUrl=url, ReceiptHandle="nonsense")


@probe
def attributes(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q", VisibilityTimeout="0"), queues.client()
    given: Any = {"kind": {"DataType": "String", "StringValue": "order"}}
    sent = client.send_message(QueueUrl=url, MessageBody="a", MessageAttributes=given)
    assert sent["MD5OfMessageBody"] == hashlib.md5(b"a", usedforsecurity=False).hexdigest()
    assert sent["MD5OfMessageAttributes"]
    depth = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    assert depth["Attributes"] == {"ApproximateNumberOfMessages": "1"}
    asked: Any = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
    receive(queues, url)
    message = receive(queues, url, **asked)[0]
    assert message["MessageAttributes"]["kind"]["StringValue"] == "order"
    assert message["Attributes"]["ApproximateReceiveCount"] == "2"


@probe
def purge_limit(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q"), queues.client()
    client.purge_queue(QueueUrl=url)
    with pytest.raises(ClientError, match="PurgeQueueInProgress"):
        client.purge_queue(QueueUrl=url)


@probe
def standard_disorder(queues: SQSNamespace) -> None:
    url, client = queues.create_queue("q", VisibilityTimeout="60"), queues.client()
    sent = [f"{number:03}" for number in range(100)]
    for start in range(0, 100, 10):
        entries: Any = [{"Id": text, "MessageBody": text} for text in sent[start : start + 10]]
        client.send_message_batch(QueueUrl=url, Entries=entries)
    came: list[str] = []
    while messages := receive(queues, url, MaxNumberOfMessages=10):
        came += bodies(messages)
    assert set(came) == set(sent)
    assert came != sent
