"""The table itself: its definition, how it is made, and the check that an existing one fits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pratique.core.events import get_logger
from pratique.orchestrator.conversations.dynamodb.keys import INDEX
from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from pratique.orchestrator.conversations.dynamodb.gateway import Gateway

__all__ = ["EXPIRES_AT", "cloudformation", "create_table", "definition", "verify_table"]

EXPIRES_AT: Final = "expires_at"
_POLL_SECONDS: Final = 0.25
_HINT: Final = "Make one that fits: pratique conversations create-table --table NAME"

_log = get_logger("conversations")


def definition() -> dict[str, Any]:
    """Return the table as CreateTable has it, the name left out: on demand, deletion protected."""
    names = ("pk", "sk", "shelf", "place")
    return {
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
        "KeySchema": _key_schema("pk", "sk"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": INDEX,
                "KeySchema": _key_schema("shelf", "place"),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["body"]},
            }
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": True,
    }


def cloudformation(name: str) -> dict[str, Any]:
    """Return a CloudFormation template of the table, with point-in-time recovery and encryption by a KMS key."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Conversations of pratique",
        "Resources": {
            "Conversations": {
                "Type": "AWS::DynamoDB::Table",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": {
                    "TableName": name,
                    **definition(),
                    "TimeToLiveSpecification": {"AttributeName": EXPIRES_AT, "Enabled": True},
                    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
                    "SSESpecification": {"SSEEnabled": True},
                },
            }
        },
        "Outputs": {"TableArn": {"Value": {"Fn::GetAtt": ["Conversations", "Arn"]}}},
    }


async def create_table(gateway: Gateway) -> None:
    """Make the table and wait until it can be used; must run inside a deadline.

    Raises:
        StoreUnavailableError: there is one of that name, or it cannot be made.
    """
    await gateway.send("create_table", TableName=gateway.table, **definition())
    while (await _describe(gateway))["TableStatus"] != "ACTIVE":  # noqa: ASYNC110 - DynamoDB can only be asked
        await asyncio.sleep(_POLL_SECONDS)
    await gateway.send(
        "update_time_to_live",
        TableName=gateway.table,
        TimeToLiveSpecification={"AttributeName": EXPIRES_AT, "Enabled": True},
    )


async def verify_table(gateway: Gateway, *, expires: bool) -> None:
    """Raise `StoreUnavailableError` unless the table has the keys that this store writes."""
    found = await _describe(gateway)
    wanted = definition()
    indexes = {one["IndexName"]: one for one in found.get("GlobalSecondaryIndexes", [])}
    _verify_keys(gateway.table, "", found.get("KeySchema", []), wanted["KeySchema"])
    index = indexes.get(INDEX)
    if index is None:
        raise StoreUnavailableError(f"The table '{gateway.table}' has no index '{INDEX}'.", hint=_HINT)
    _verify_keys(
        gateway.table, f" index '{INDEX}'", index["KeySchema"], wanted["GlobalSecondaryIndexes"][0]["KeySchema"]
    )
    if index["Projection"]["ProjectionType"] != "ALL" and "body" not in index["Projection"].get("NonKeyAttributes", []):
        raise StoreUnavailableError(f"The index '{INDEX}' of '{gateway.table}' does not project 'body'.", hint=_HINT)
    if expires:
        await _warn_without_expiry(gateway)


async def _warn_without_expiry(gateway: Gateway) -> None:
    answer = await gateway.send("describe_time_to_live", TableName=gateway.table)
    state = answer["TimeToLiveDescription"]
    if state.get("TimeToLiveStatus") not in {"ENABLED", "ENABLING"} or state.get("AttributeName") != EXPIRES_AT:
        _log.warning("conversations_expire_only_by_purge", table=gateway.table, expected_attribute=EXPIRES_AT)


async def _describe(gateway: Gateway) -> dict[str, Any]:
    described: dict[str, Any] = (await gateway.send("describe_table", TableName=gateway.table))["Table"]
    return described


def _verify_keys(table: str, what: str, found: list[dict[str, str]], wanted: list[dict[str, str]]) -> None:
    if found != wanted:
        told = ", ".join(f"{one['AttributeName']} {one['KeyType']}" for one in found)
        expected = ", ".join(f"{one['AttributeName']} {one['KeyType']}" for one in wanted)
        raise StoreUnavailableError(
            f"Expected the keys {expected} in the table '{table}'{what}; found {told or 'none'}.", hint=_HINT
        )


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": sort, "KeyType": "RANGE"},
    ]
