"""What every provider of Kinesis shows, and that its declared gaps are gaps."""

from __future__ import annotations

import contextlib
import hashlib
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pratique.testkit.fixtures import namespace_fixture, server_fixture
from pratique.testkit.services.aws.fidelity import KINESIS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.services.aws.kinesis import KinesisNamespace

pytestmark = pytest.mark.integration

PROBES: dict[str, Callable[[KinesisNamespace], None]] = {}
GAP_CODES = {"resharding": ["ResourceNotFoundException"], "fan_out": ["500"]}
"""What a gap shows as, where it is no assertion."""

ministack, moto, container = (
    server_fixture("kinesis", use=use) for use in ("ministack", "moto", "ministack-container")
)
ministack_streams = namespace_fixture("ministack")
moto_streams = namespace_fixture("moto")
container_streams = namespace_fixture("container")


@pytest.fixture(params=["ministack_streams", "moto_streams", "container_streams"])
def streams(request: pytest.FixtureRequest) -> KinesisNamespace:
    found: KinesisNamespace = request.getfixturevalue(request.param)
    return found


def probe(function: Callable[[KinesisNamespace], None]) -> Callable[[KinesisNamespace], None]:
    PROBES[function.__name__] = function
    return function


@pytest.mark.parametrize("capability", sorted(KINESIS))
def test_a_capability_is_shown_unless_it_is_a_declared_gap(
    streams: KinesisNamespace, capability: str, hold_to_gaps: Callable[..., None]
) -> None:
    hold_to_gaps(streams, capability, PROBES[capability], *GAP_CODES.get(capability, ()))


def put(streams: KinesisNamespace, stream: str, *texts: str, key: str = "key") -> list[Any]:
    client = streams.client()
    return [client.put_record(StreamName=stream, Data=text.encode(), PartitionKey=key) for text in texts]


def shards_of(streams: KinesisNamespace, stream: str) -> list[Any]:
    return list(streams.client().list_shards(StreamName=stream)["Shards"])


def iterate(streams: KinesisNamespace, stream: str, kind: Any, shard: str | None = None, **more: Any) -> str:
    shard = shard or shards_of(streams, stream)[0]["ShardId"]
    answer = streams.client().get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType=kind, **more)
    return answer["ShardIterator"]


def read(streams: KinesisNamespace, iterator: str) -> list[str]:
    return [record["Data"].decode() for record in streams.client().get_records(ShardIterator=iterator)["Records"]]


@probe
def partitioning(streams: KinesisNamespace) -> None:
    stream = streams.create_stream("s", shards=3)
    shards = shards_of(streams, stream)
    for key in ("a", "b", "c", "d", "e", "f"):
        went = put(streams, stream, f"{key}1", f"{key}2", key=key)
        hashed = int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest(), 16)
        owner = next(
            shard["ShardId"]
            for shard in shards
            if int(shard["HashKeyRange"]["StartingHashKey"]) <= hashed <= int(shard["HashKeyRange"]["EndingHashKey"])
        )
        assert [one["ShardId"] for one in went] == [owner, owner]
    came = [
        text for shard in shards for text in read(streams, iterate(streams, stream, "TRIM_HORIZON", shard["ShardId"]))
    ]
    assert [text for text in came if text.startswith("a")] == ["a1", "a2"]
    assert len(came) == 12


@probe
def iterator_types(streams: KinesisNamespace) -> None:
    stream = streams.create_stream("s")
    first, second = put(streams, stream, "1", "2")
    between = time.time()
    latest = iterate(streams, stream, "LATEST")
    time.sleep(0.01)
    put(streams, stream, "3")
    at = iterate(streams, stream, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=second["SequenceNumber"])
    after = iterate(streams, stream, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=first["SequenceNumber"])
    since = iterate(streams, stream, "AT_TIMESTAMP", Timestamp=between)
    assert read(streams, iterate(streams, stream, "TRIM_HORIZON")) == ["1", "2", "3"]
    assert read(streams, latest) == ["3"]
    assert read(streams, at) == ["2", "3"]
    assert read(streams, after) == ["2", "3"]
    assert read(streams, since) == ["3"]


@probe
def resharding(streams: KinesisNamespace) -> None:
    stream, client = streams.create_stream("s"), streams.client()
    parent = shards_of(streams, stream)[0]
    put(streams, stream, "before")
    middle = str((int(parent["HashKeyRange"]["EndingHashKey"]) + 1) // 2)
    client.split_shard(StreamName=stream, ShardToSplit=parent["ShardId"], NewStartingHashKey=middle)
    streams.endpoint.wait_until_active(stream)
    children = [shard for shard in shards_of(streams, stream) if shard.get("ParentShardId") == parent["ShardId"]]
    assert len(children) == 2
    answer = client.get_records(ShardIterator=iterate(streams, stream, "TRIM_HORIZON", parent["ShardId"]))
    assert [record["Data"] for record in answer["Records"]] == [b"before"]
    assert answer.get("NextShardIterator") is None, "a closed shard ends"


@probe
def record_size_limit(streams: KinesisNamespace) -> None:
    stream = streams.create_stream("s")
    with pytest.raises(ClientError, match=r"ValidationException|InvalidArgumentException"):
        put(streams, stream, "x" * (1024 * 1024 + 1))


@probe
def batch_limits(streams: KinesisNamespace) -> None:
    stream = streams.create_stream("s")
    records: Any = [{"Data": b"x", "PartitionKey": "k"} for _ in range(501)]
    with pytest.raises(ClientError, match=r"ValidationException|InvalidArgumentException"):
        streams.client().put_records(StreamName=stream, Records=records)


@probe
def throughput_limit(streams: KinesisNamespace) -> None:
    stream = streams.create_stream("s")
    with pytest.raises(ClientError, match="ProvisionedThroughputExceededException"):
        put(streams, stream, *["x" * 900_000] * 5)


@probe
def read_limit(streams: KinesisNamespace) -> None:
    stream = streams.create_stream("s")
    iterator = iterate(streams, stream, "TRIM_HORIZON")
    with pytest.raises(ClientError, match="ProvisionedThroughputExceededException"):
        [read(streams, iterator) for _ in range(20)]


@probe
def iterator_expiry(streams: KinesisNamespace) -> None:
    streams.create_stream("s")
    with pytest.raises(ClientError, match=r"InvalidArgumentException|ExpiredIteratorException"):
        read(streams, "nonsense")


@probe
def millis_behind(streams: KinesisNamespace) -> None:
    stream = streams.create_stream("s")
    put(streams, stream, "1", "2")
    time.sleep(0.05)
    iterator = iterate(streams, stream, "TRIM_HORIZON")
    answer = streams.client().get_records(ShardIterator=iterator, Limit=1)
    assert answer["MillisBehindLatest"] > 0
    assert streams.client().get_records(ShardIterator=answer["NextShardIterator"])["MillisBehindLatest"] == 0


@probe
def fan_out(streams: KinesisNamespace) -> None:
    stream, client = streams.create_stream("s"), streams.client()
    arn = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    consumer = client.register_stream_consumer(StreamARN=arn, ConsumerName="reader")["Consumer"]["ConsumerARN"]
    deadline = time.monotonic() + 5
    while client.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"] != "ACTIVE":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    put(streams, stream, "pushed")
    shard = shards_of(streams, stream)[0]["ShardId"]
    answer = client.subscribe_to_shard(ConsumerARN=consumer, ShardId=shard, StartingPosition={"Type": "TRIM_HORIZON"})
    with contextlib.closing(answer["EventStream"]) as events:
        for event in events:
            if records := event["SubscribeToShardEvent"]["Records"]:
                assert [record["Data"] for record in records] == [b"pushed"]
                return
    pytest.fail("no record was pushed")
