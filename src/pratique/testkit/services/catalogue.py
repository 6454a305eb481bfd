"""Every service, one line each."""

from __future__ import annotations

from typing import Any

from pratique.testkit.services.aws.dynamodb import DynamoDBService
from pratique.testkit.services.aws.kinesis import KinesisService
from pratique.testkit.services.aws.s3 import S3Service
from pratique.testkit.services.aws.sqs import SQSService
from pratique.testkit.services.interface import Service
from pratique.testkit.services.modelserver import ModelServerService
from pratique.testkit.services.opensearch import OpenSearchService
from pratique.testkit.services.registry import RegistryService
from pratique.testkit.services.valkey import ValkeyService
from pratique.testkit.services.wiremock import WireMockService

__all__ = ["make_services"]


def make_services() -> dict[str, Service[Any]]:
    """Return the services by name."""
    services: tuple[Service[Any], ...] = (
        ValkeyService(),
        DynamoDBService(),
        S3Service(),
        SQSService(),
        KinesisService(),
        OpenSearchService(),
        RegistryService(),
        ModelServerService(),
        WireMockService(),
    )
    return {service.name: service for service in services}
