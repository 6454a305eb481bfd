"""Every service, one line each. Names cost nothing: a service's module is imported when the service is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pratique.testkit.services.interface import Service

__all__ = ["SERVICES", "make_services"]

SERVICES: Final[Mapping[str, str]] = {
    "valkey": "valkey:ValkeyService",
    "dynamodb": "aws.dynamodb:DynamoDBService",
    "s3": "aws.s3:S3Service",
    "sqs": "aws.sqs:SQSService",
    "kinesis": "aws.kinesis:KinesisService",
    "opensearch": "opensearch:OpenSearchService",
    "registry": "registry:RegistryService",
    "model_server": "modelserver:ModelServerService",
    "wiremock": "wiremock:WireMockService",
}
"""Name → module of this package and class."""


class _Catalogue(Mapping[str, "Service[Any]"]):
    """The services by name, each made once, when it is first looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Service[Any]] = {}

    def __getitem__(self, name: str) -> Service[Any]:
        if name not in self._made:
            module, _, kind = SERVICES[name].partition(":")
            self._made[name] = getattr(import_module(f"{__package__}.{module}"), kind)()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in SERVICES  # without making it

    def __iter__(self) -> Iterator[str]:
        return iter(SERVICES)

    def __len__(self) -> int:
        return len(SERVICES)


def make_services() -> Mapping[str, Service[Any]]:
    """Return the services by name."""
    return _Catalogue()
