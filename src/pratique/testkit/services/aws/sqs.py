"""SQS: queues whose names begin with the namespace's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pratique.testkit.services.aws import servers
from pratique.testkit.services.aws.clients import AwsEndpoint
from pratique.testkit.services.aws.fidelity import SQS, gaps_of
from pratique.testkit.services.aws.namespace import AwsNamespace, error_code
from pratique.testkit.services.aws.service import AwsService

if TYPE_CHECKING:
    from collections.abc import Mapping

    from types_boto3_sqs import SQSClient, SQSServiceResource

__all__ = ["SQSEndpoint", "SQSNamespace", "SQSService"]

_PAGE: Final = 1000
_GONE: Final = ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue")
_FIFO: Final = ".fifo"


@dataclass(frozen=True, kw_only=True)
class SQSEndpoint(AwsEndpoint):
    """A server shared by the whole run. Make queues through a namespace of it."""

    read_seconds: ClassVar[float] = 25.0  # a long poll takes 20

    def client(self, **options: Any) -> SQSClient:  # noqa: ANN401 - boto3's own options
        """Return boto3's client; without options, the one that this process shares."""
        client: SQSClient = self._make_client(options)
        return client

    def resource(self, **options: Any) -> SQSServiceResource:  # noqa: ANN401 - as above
        """Return boto3's resource: queues and messages as objects."""
        resource: SQSServiceResource = self._make_resource(options)
        return resource


class SQSNamespace(AwsNamespace[SQSEndpoint]):
    """The queues of one test."""

    kind = "queue"
    valid = re.compile(r"(?=.{1,80}\Z)[a-zA-Z0-9_-]+(\.fifo)?")

    def client(self, **options: Any) -> SQSClient:  # noqa: ANN401 - boto3's own options
        """Return boto3's client."""
        return self.endpoint.client(**options)

    def resource(self, **options: Any) -> SQSServiceResource:  # noqa: ANN401 - as above
        """Return boto3's resource."""
        return self.endpoint.resource(**options)

    def queue(self, name: str) -> str:
        """Return the full name of a queue of this test; makes nothing."""
        return self.full_name(name)

    def create_queue(self, name: str, **attributes: str) -> str:
        """Make a queue (a FIFO one where the name ends in .fifo) with these attributes, and return its URL."""
        full = self.queue(name)
        given: Mapping[Any, str] = {**({"FifoQueue": "true"} if full.endswith(_FIFO) else {}), **attributes}
        return self.client().create_queue(QueueName=full, Attributes=given)["QueueUrl"]

    def arn(self, queue_url: str) -> str:
        """Return what a redrive policy calls a queue."""
        about = self.client().get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
        return about["Attributes"]["QueueArn"]

    def _list(self) -> list[str]:
        pages = self.client().get_paginator("list_queues").paginate(PaginationConfig={"PageSize": _PAGE})
        self._urls = {url.rpartition("/")[2]: url for page in pages for url in page.get("QueueUrls", [])}
        return list(self._urls)

    def _remove(self, name: str) -> None:
        from botocore.exceptions import ClientError

        try:
            self.client().delete_queue(QueueUrl=self._urls[name])
        except ClientError as error:
            if error_code(error) not in _GONE:
                raise


class SQSService(AwsService[SQSEndpoint]):
    """SQS."""

    name: ClassVar[str] = "sqs"
    title: ClassVar[str] = "Amazon SQS"
    creates: ClassVar[tuple[str, str]] = ("CreateQueue", "QueueName")
    capabilities = SQS
    endpoint_type = SQSEndpoint
    namespace_type = SQSNamespace

    def __init__(self) -> None:
        self.providers = (
            servers.ministack(gaps_of("sqs", "ministack")),
            servers.ministack_container(gaps_of("sqs", "ministack")),
            servers.moto(gaps_of("sqs", "moto")),
        )
