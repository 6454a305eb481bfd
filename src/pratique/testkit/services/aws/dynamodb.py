"""DynamoDB: tables whose names begin with the namespace's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pratique.testkit.services.aws import servers
from pratique.testkit.services.aws.fidelity import DYNAMODB, gaps_of
from pratique.testkit.services.aws.lifecycle import LifecycleEndpoint, LifecycleNamespace
from pratique.testkit.services.aws.namespace import error_code
from pratique.testkit.services.aws.schema import table_definition
from pratique.testkit.services.aws.service import AwsService

if TYPE_CHECKING:
    from collections.abc import Mapping

    from types_boto3_dynamodb import DynamoDBClient, DynamoDBServiceResource

__all__ = ["DynamoDBEndpoint", "DynamoDBNamespace", "DynamoDBService"]


@dataclass(frozen=True, kw_only=True)
class DynamoDBEndpoint(LifecycleEndpoint):
    """A server shared by the whole run. Make tables through a namespace of it."""

    kind: ClassVar[str] = "table"

    def client(self, **options: Any) -> DynamoDBClient:  # noqa: ANN401 - boto3's own options
        """Return boto3's client; without options, the one that this process shares."""
        client: DynamoDBClient = self._make_client(options)
        return client

    def resource(self, **options: Any) -> DynamoDBServiceResource:  # noqa: ANN401 - as above
        """Return boto3's resource: tables as objects, items as plain dicts."""
        resource: DynamoDBServiceResource = self._make_resource(options)
        return resource

    def streams_client(self, **options: Any) -> Any:  # noqa: ANN401 - its types are in a package of their own
        """Return boto3's client of `dynamodbstreams`, which reads a table's changes."""
        return self._new_client("dynamodbstreams", options)

    def _status_of(self, name: str) -> str | None:
        return self.client().describe_table(TableName=name)["Table"].get("TableStatus")


class DynamoDBNamespace(LifecycleNamespace[DynamoDBEndpoint]):
    """The tables of one test."""

    kind = "table"
    valid = re.compile(r"[a-zA-Z0-9_.-]{3,255}")

    def client(self, **options: Any) -> DynamoDBClient:  # noqa: ANN401 - boto3's own options
        """Return boto3's client."""
        return self.endpoint.client(**options)

    def resource(self, **options: Any) -> DynamoDBServiceResource:  # noqa: ANN401 - as above
        """Return boto3's resource."""
        return self.endpoint.resource(**options)

    def table(self, name: str) -> str:
        """Return the full name of a table of this test; makes nothing."""
        return self.full_name(name)

    def create_table(
        self,
        name: str,
        key: str = "pk",
        *,
        sort: str | None = None,
        indexes: Mapping[str, str] | None = None,
        ttl: str | None = None,
        **options: Any,  # noqa: ANN401 - CreateTable's own
    ) -> str:
        """Make a table, paid for by request, and return its full name when it can be used.

        Args:
            name: as the test calls it.
            key: the partition key's attribute and type: "id", "id: S", "id: N", "id: B".
            sort: the sort key, written likewise.
            indexes: global indexes of all attributes: name → "status: S" or "status: S, created: N".
            ttl: the attribute that says when an item expires.
            options: more for CreateTable, as boto3 takes it; wins over what is made from the arguments before.
        """
        full = self.table(name)
        client = self.client()
        definition = {**table_definition(key, sort, indexes or {}), **options}
        made = client.create_table(TableName=full, **definition)
        if made["TableDescription"].get("TableStatus") != "ACTIVE":
            self.endpoint.wait_until_active(full)
        if ttl is not None:
            specification: Any = {"AttributeName": ttl, "Enabled": True}
            client.update_time_to_live(TableName=full, TimeToLiveSpecification=specification)
        return full

    def _list(self) -> list[str]:
        pages = self.client().get_paginator("list_tables").paginate()
        return [name for page in pages for name in page["TableNames"]]

    def _delete(self, name: str) -> None:
        self.client().delete_table(TableName=name)

    def _is_removed(self, name: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            return super()._is_removed(name)
        except ClientError as error:
            if error_code(error) != "ValidationException" or "protect" not in str(error).lower():
                raise
        self.client().update_table(TableName=name, DeletionProtectionEnabled=False)
        return False


class DynamoDBService(AwsService[DynamoDBEndpoint]):
    """DynamoDB."""

    name: ClassVar[str] = "dynamodb"
    title: ClassVar[str] = "Amazon DynamoDB"
    creates: ClassVar[tuple[str, str]] = ("CreateTable", "TableName")
    capabilities = DYNAMODB
    endpoint_type = DynamoDBEndpoint
    namespace_type = DynamoDBNamespace

    def __init__(self) -> None:
        self.providers = (
            servers.ministack(gaps_of("dynamodb", "ministack")),
            servers.dynamodb_local(gaps_of("dynamodb", "dynamodb-local")),
            servers.ministack_container(gaps_of("dynamodb", "ministack")),
            servers.dynalite(gaps_of("dynamodb", "dynalite")),
            servers.moto(gaps_of("dynamodb", "moto")),
        )
