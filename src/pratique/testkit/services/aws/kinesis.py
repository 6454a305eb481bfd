"""Kinesis: streams whose names begin with the namespace's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pratique.testkit.services.aws import servers
from pratique.testkit.services.aws.fidelity import KINESIS, gaps_of
from pratique.testkit.services.aws.lifecycle import LifecycleEndpoint, LifecycleNamespace
from pratique.testkit.services.aws.service import AwsService

if TYPE_CHECKING:
    from types_boto3_kinesis import KinesisClient

__all__ = ["KinesisEndpoint", "KinesisNamespace", "KinesisService"]


@dataclass(frozen=True, kw_only=True)
class KinesisEndpoint(LifecycleEndpoint):
    """A server shared by the whole run. Make streams through a namespace of it."""

    kind: ClassVar[str] = "stream"

    def client(self, **options: Any) -> KinesisClient:  # noqa: ANN401 - boto3's own options
        """Return boto3's client; without options, the one that this process shares."""
        client: KinesisClient = self._make_client(options)
        return client

    def _status_of(self, name: str) -> str:
        return self.client().describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"]


class KinesisNamespace(LifecycleNamespace[KinesisEndpoint]):
    """The streams of one test."""

    kind = "stream"
    valid = re.compile(r"[a-zA-Z0-9_.-]{1,128}")

    def client(self, **options: Any) -> KinesisClient:  # noqa: ANN401 - boto3's own options
        """Return boto3's client."""
        return self.endpoint.client(**options)

    def stream(self, name: str) -> str:
        """Return the full name of a stream of this test; makes nothing."""
        return self.full_name(name)

    def create_stream(self, name: str, *, shards: int = 1) -> str:
        """Make a stream and return its full name when it can be used."""
        full = self.stream(name)
        self.client().create_stream(StreamName=full, ShardCount=shards)
        self.endpoint.wait_until_active(full)
        return full

    def _list(self) -> list[str]:
        pages = self.client().get_paginator("list_streams").paginate()
        return [name for page in pages for name in page["StreamNames"]]

    def _delete(self, name: str) -> None:
        self.client().delete_stream(StreamName=name, EnforceConsumerDeletion=True)


class KinesisService(AwsService[KinesisEndpoint]):
    """Kinesis."""

    name: ClassVar[str] = "kinesis"
    title: ClassVar[str] = "Amazon Kinesis Data Streams"
    creates: ClassVar[tuple[str, str]] = ("CreateStream", "StreamName")
    capabilities = KINESIS
    endpoint_type = KinesisEndpoint
    namespace_type = KinesisNamespace

    def __init__(self) -> None:
        self.providers = (
            servers.ministack(gaps_of("kinesis", "ministack")),
            servers.ministack_container(gaps_of("kinesis", "ministack")),
            servers.moto(gaps_of("kinesis", "moto")),
        )
