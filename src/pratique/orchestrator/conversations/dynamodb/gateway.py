"""Speaks to DynamoDB: one request at a time, each bounded in time, repeated with jitter where that can help.

This is the only layer that retries: botocore's own retries are off. A transaction is repeated under the same
ClientRequestToken, so that one whose answer was lost is not done twice. Whoever calls bounds the whole by `deadline`.
"""

from __future__ import annotations

import asyncio
import functools
import random
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from pratique.core.catalogue.conversations import STORE_COMMIT_SECONDS, STORE_FAILURES, STORE_RETRIES
from pratique.orchestrator.conversations.dynamodb import faults
from pratique.orchestrator.conversations.dynamodb.faults import Fault, Kind
from pratique.orchestrator.conversations.dynamodb.items import key_of
from pratique.orchestrator.conversations.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.conversations.dynamodb.connection import Connection
    from pratique.orchestrator.conversations.dynamodb.keys import Item
    from pratique.orchestrator.conversations.dynamodb.plans import Write

__all__ = ["Gateway"]

_MAX_ATTEMPTS: Final = 10
_BATCH_ITEMS: Final = 25
_CONNECTIONS: Final = 64
_CLOSE_SECONDS: Final = 5.0


class Gateway:
    """The table, by requests that either answer or raise `StoreUnavailableError`. Make one with `open`."""

    def __init__(self, connection: Connection, *, client: Any, reader: Any, clock: Clock, metrics: Metrics) -> None:  # noqa: ANN401 - aiobotocore has no types
        self.connection = connection
        self.table = connection.table
        self._client = client
        self._reader = reader
        self._clock = clock
        self._commit_seconds = metrics.histogram(STORE_COMMIT_SECONDS)
        self._failures = metrics.counter(STORE_FAILURES)
        self._retries = metrics.counter(STORE_RETRIES)
        self._stack: AsyncExitStack | None = None

    @classmethod
    async def open(cls, connection: Connection, *, clock: Clock, metrics: Metrics) -> Gateway:
        """Make the clients. Nothing is asked of DynamoDB yet.

        Raises:
            StoreUnavailableError: no region is known, or an endpoint is none.
        """
        async with AsyncExitStack() as stack:
            client = await _enter_client(stack, connection, connection.endpoint_url)
            reader = client
            if connection.read_endpoint_url:
                reader = await _enter_client(stack, connection, connection.read_endpoint_url)
            gateway = cls(connection, client=client, reader=reader, clock=clock, metrics=metrics)
            gateway._stack = stack.pop_all()
        return gateway

    async def aclose(self) -> None:
        """Close the connections."""
        stack, self._stack = self._stack, None
        if stack is not None:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await stack.aclose()

    @asynccontextmanager
    async def deadline(self, what: str) -> AsyncIterator[None]:
        """Bound everything in the body; raise `StoreUnavailableError` when the time is over or the store is closed."""
        if self._stack is None:
            raise StoreUnavailableError(f"The store of the table '{self.table}' is closed.")
        seconds = self.connection.deadline_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            self._failures.inc()
            raise StoreUnavailableError(
                f"The table '{self.table}' did not {what} within {seconds:g} s.",
                hint="It may still be stored; sending the same message again is safe.",
            ) from error

    async def get(self, key: Item) -> Item | None:
        """Return an item as it is now."""
        answer = await self.send("get_item", TableName=self.table, Key=key, ConsistentRead=True)
        found: Item | None = answer.get("Item")
        return found

    async def query(
        self, partition: str, *, prefix: str = "", limit: int | None = None, keys_only: bool = False
    ) -> list[Item]:
        """Return the items of a partition as they are now, in the order of their sort keys; all pages."""
        request: dict[str, Any] = {
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": partition}},
            "ConsistentRead": True,
        }
        if prefix:
            request["KeyConditionExpression"] += " AND begins_with(sk, :sk)"
            request["ExpressionAttributeValues"][":sk"] = {"S": prefix}
        if keys_only:
            request["ProjectionExpression"] = "pk, sk"
        return await self._pages(self._client, request, limit=limit)

    async def query_shelf(
        self, index: str, shelf: str, *, before: str, limit: int, descending: bool, may_be_cached: bool = False
    ) -> list[Item]:
        """Return up to `limit` items of a shelf that stand before a place. May be a moment old; cached, minutes."""
        request = {
            "IndexName": index,
            "KeyConditionExpression": "shelf = :shelf AND place < :before",
            "ExpressionAttributeValues": {":shelf": {"S": shelf}, ":before": {"S": before}},
            "ScanIndexForward": not descending,
        }
        return await self._pages(self._reader if may_be_cached else self._client, request, limit=limit)

    async def put(self, write: Write) -> bool:
        """Put an item; False where the condition did not hold."""
        return await self._write("put_item", TableName=self.table, Item=write.item, **_condition(write))

    async def update(self, key: Item, expression: str, values: dict[str, Any] | None = None) -> bool:
        """Change an item that is there; False where it is not."""
        more = {"ExpressionAttributeValues": values} if values else {}
        return await self._write(
            "update_item",
            TableName=self.table,
            Key=key,
            UpdateExpression=expression,
            ConditionExpression="attribute_exists(pk)",
            **more,
        )

    async def transact(self, writes: Sequence[Write]) -> bool:
        """Do all writes or none; False where a condition did not hold."""
        began = self._clock.monotonic()
        is_done = await self._write(
            "transact_write_items",
            TransactItems=[self._action(write) for write in writes],
            ClientRequestToken=secrets.token_hex(16),
        )
        self._commit_seconds.observe(self._clock.monotonic() - began)
        return is_done

    async def delete_all(self, keys: Sequence[Item]) -> None:
        """Delete items, in batches; one that is not there is no error."""
        for start in range(0, len(keys), _BATCH_ITEMS):
            left: list[Any] = [{"DeleteRequest": {"Key": key_of(key)}} for key in keys[start : start + _BATCH_ITEMS]]
            for attempt in range(_MAX_ATTEMPTS):
                answer = await self.send("batch_write_item", RequestItems={self.table: left})
                left = answer.get("UnprocessedItems", {}).get(self.table, [])
                if not left:
                    break
                await self._wait(attempt, "throttled")
            if left:
                raise StoreUnavailableError(f"The table '{self.table}' did not delete {len(left)} items.")

    async def send(self, operation: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - as botocore has it
        """Send one request until it is answered; raise `StoreUnavailableError` where that does not help.

        Raises:
            ConditionFailedError.
        """
        return await self._send(self._client, operation, request)

    async def _write(self, operation: str, **request: Any) -> bool:  # noqa: ANN401 - as above
        try:
            await self.send(operation, **request)
        except _ConditionFailedError:
            return False
        return True

    async def _pages(self, client: Any, request: dict[str, Any], *, limit: int | None) -> list[Item]:  # noqa: ANN401 - as above
        found: list[Item] = []
        request = {"TableName": self.table, **request}
        while True:
            if limit is not None:
                request["Limit"] = limit - len(found)
            answer = await self._send(client, "query", request)
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer or (limit is not None and len(found) >= limit):
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def _send(self, client: Any, operation: str, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - as above
        for attempt in range(_MAX_ATTEMPTS):
            try:
                answer: dict[str, Any] = await getattr(client, operation)(**request)
            except (ClientError, BotoCoreError) as error:
                fault = _assess(error)
                if fault.kind is Kind.CONDITION:
                    raise _ConditionFailedError from error
                if fault.kind is Kind.FATAL or attempt == _MAX_ATTEMPTS - 1:
                    raise self._unavailable(operation, fault, error) from error
                await self._wait(attempt, fault.reason)
            else:
                return answer
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    async def _wait(self, attempt: int, reason: str) -> None:
        self._retries.labels(reason=reason).inc()
        # The system's time, not the injected clock's: what is waited for is a machine elsewhere.
        await asyncio.sleep(faults.backoff_seconds(attempt, draw=random.random()))  # noqa: S311 - jitter

    def _unavailable(self, operation: str, fault: Fault, error: Exception) -> StoreUnavailableError:
        self._failures.inc()
        return StoreUnavailableError(
            f"The table '{self.table}' cannot be used ({fault.reason}, {operation}): {error}", hint=fault.hint
        )

    def _action(self, write: Write) -> dict[str, Any]:
        if write.is_deletion:
            return {"Delete": {"TableName": self.table, "Key": write.item}}
        return {"Put": {"TableName": self.table, "Item": write.item, **_condition(write)}}


class _ConditionFailedError(Exception):
    """A condition of a write did not hold."""


def _condition(write: Write) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if write.condition:
        found["ConditionExpression"] = write.condition
    if write.names:
        found["ExpressionAttributeNames"] = write.names
    if write.values:
        found["ExpressionAttributeValues"] = write.values
    return found


def _assess(error: Exception) -> Fault:
    if not isinstance(error, ClientError):
        return faults.assess_transport(type(error).__name__)
    response: Any = error.response
    code = str(response.get("Error", {}).get("Code", ""))
    if code == "TransactionCanceledException":
        return faults.assess_cancellation(response.get("CancellationReasons") or [])
    return faults.assess_code(code, status=int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)))


@functools.cache
def _loader() -> Any:  # noqa: ANN401 - as above
    from botocore.loaders import create_loader

    # DynamoDB's description takes 0.2 s to read: once in a process.
    return create_loader()


async def _enter_client(stack: AsyncExitStack, connection: Connection, endpoint_url: str) -> Any:  # noqa: ANN401 - aiobotocore has no types
    # Here and not above: importing it tries out sockets, and importing a module does nothing.
    from aiobotocore.config import AioConfig  # type: ignore[import-untyped]  # it has none
    from aiobotocore.session import get_session  # type: ignore[import-untyped]  # as above

    config = AioConfig(
        connect_timeout=connection.attempt_seconds,
        read_timeout=connection.attempt_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
    )
    session = get_session()
    session.register_component("data_loader", _loader())
    try:
        async with asyncio.timeout(connection.deadline_seconds):
            return await stack.enter_async_context(
                session.create_client(
                    "dynamodb",
                    region_name=connection.region or None,
                    endpoint_url=endpoint_url or None,
                    config=config,
                )
            )
    except (BotoCoreError, ValueError, TimeoutError) as error:
        fault = faults.assess_transport(type(error).__name__)
        raise StoreUnavailableError(f"DynamoDB cannot be reached: {error}", hint=fault.hint) from error
