"""Requests to a client that answers as told: what is sent again, what is not, and reads that are torn at first."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError, ParamValidationError

from pratique.core.clock import ManualClock
from pratique.core.ids import ConversationId, PrincipalId, SequentialIds
from pratique.core.metrics import Metrics
from pratique.orchestrator.conversations import ConversationNotFoundError, StoreUnavailableError
from pratique.orchestrator.conversations.dynamodb import faults, items, keys, plans
from pratique.orchestrator.conversations.dynamodb import table as tables
from pratique.orchestrator.conversations.dynamodb.connection import Connection
from pratique.orchestrator.conversations.dynamodb.gateway import Gateway
from pratique.orchestrator.conversations.dynamodb.plans import Names, Request, Retention, Write
from pratique.orchestrator.conversations.dynamodb.reading import Reading
from pratique.orchestrator.conversations.dynamodb.removal import Removal

pytestmark = pytest.mark.unit

KEY = keys.head_key("conv_1")


class Client:
    """Answers in turn with what it was given; an exception is raised. The last answer is repeated."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        async def call(**request: Any) -> Any:
            self.requests.append((operation, dict(request)))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refused(code: str, *, status: int = 400, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(response, "Operation")


def gateway_of(client: Client) -> Gateway:
    return Gateway(Connection(table="talk"), client=client, reader=client, clock=ManualClock(), metrics=Metrics())


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_BASE_SECONDS", 0.0)


async def test_a_transaction_is_repeated_under_the_same_token() -> None:
    conflict = refused("TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}])
    timed_out = ConnectTimeoutError(endpoint_url="http://x")
    client = Client(conflict, timed_out, refused("InternalServerError", status=500), {})
    assert await gateway_of(client).transact([Write(item=KEY), Write(item=KEY, is_deletion=True)])
    tokens = {request["ClientRequestToken"] for _, request in client.requests}
    assert (len(client.requests), len(tokens)) == (4, 1)
    assert [next(iter(action)) for action in client.requests[0][1]["TransactItems"]] == ["Put", "Delete"]


async def test_a_failed_condition_is_an_answer_and_not_repeated() -> None:
    client = Client(refused("TransactionCanceledException", CancellationReasons=[{"Code": "ConditionalCheckFailed"}]))
    assert not await gateway_of(client).transact([Write(item=KEY)])
    assert len(client.requests) == 1
    assert not await gateway_of(Client(refused("ConditionalCheckFailedException"))).put(Write(item=KEY))


@pytest.mark.parametrize(
    "error",
    [
        refused("AccessDeniedException"),
        refused("NeverHeardOf"),
        NoCredentialsError(),
        ParamValidationError(report="a request that the client does not even send"),
    ],
)
async def test_what_repeating_does_not_help_is_told_at_once(error: Exception) -> None:
    client = Client(error)
    with pytest.raises(StoreUnavailableError, match="'talk' cannot be used"):
        await gateway_of(client).get(KEY)
    assert len(client.requests) == 1


async def test_repeating_ends() -> None:
    client = Client(refused("ThrottlingException"))
    with pytest.raises(StoreUnavailableError, match="throttled"):
        await gateway_of(client).get(KEY)
    assert len(client.requests) == 10


async def test_what_a_batch_left_undone_is_sent_again_and_only_that() -> None:
    left = {"UnprocessedItems": {"talk": [{"DeleteRequest": {"Key": KEY}}]}}
    client = Client(left, {"UnprocessedItems": {}})
    await gateway_of(client).delete_all([KEY, keys.turn_key("conv_1", 1)])
    assert [len(request["RequestItems"]["talk"]) for _, request in client.requests] == [2, 1]
    with pytest.raises(StoreUnavailableError, match="did not delete 1 items"):
        await gateway_of(Client(left)).delete_all([KEY])


async def test_a_query_goes_on_to_its_last_page_or_its_limit() -> None:
    pages = ({"Items": [KEY, KEY], "LastEvaluatedKey": KEY}, {"Items": [KEY]})
    client = Client(*pages)
    assert len(await gateway_of(client).query("C#x", prefix="T#")) == 3
    assert client.requests[1][1]["ExclusiveStartKey"] == KEY
    client = Client(*pages)
    assert len(await gateway_of(client).query("C#x", limit=2)) == 2
    assert len(client.requests) == 1


async def test_a_closed_store_and_a_late_answer_are_unavailable() -> None:
    with pytest.raises(StoreUnavailableError, match="closed"):
        async with gateway_of(Client({})).deadline("answer"):
            pass
    connection = Connection(table="talk", region="eu-central-1", deadline_seconds=0.5)
    gateway = await Gateway.open(connection, clock=ManualClock(), metrics=Metrics())
    gateway.connection = Connection(table="talk", deadline_seconds=0.01)
    with pytest.raises(StoreUnavailableError, match="did not answer within"):
        async with gateway.deadline("answer"):
            await asyncio.sleep(10)
    await gateway.aclose()
    await gateway.aclose()


async def test_without_a_region_it_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(StoreUnavailableError) as told:
        await Gateway.open(Connection(table="talk"), clock=ManualClock(), metrics=Metrics())
    assert "region" in (told.value.hint or "")


class TestTornReads:
    @staticmethod
    def _items() -> list[keys.Item]:
        request = Request(owner=PrincipalId("usr_ann"), client_message_id="m", conversation_id=None, text="hello")
        plan = plans.plan_message(request, None, Names(SequentialIds()), now=1.0, retention=Retention())
        return [write.item for write in plan.writes if write.item["pk"]["S"].startswith("C#")]

    async def test_one_is_read_again_until_it_is_whole(self) -> None:
        whole = self._items()
        client = Client({"Items": whole[:1]}, {"Items": whole[:1]}, {"Items": whole})
        reading = Reading(gateway_of(client), clock=ManualClock(), retention=Retention())
        snapshot = await reading.snapshot(ConversationId("conv_1"))
        assert [one.turn.text for one in snapshot.turns] == ["hello"]
        assert len(client.requests) == 3

    async def test_one_that_stays_torn_is_never_shown(self) -> None:
        client = Client({"Items": self._items()[:1]})
        reading = Reading(gateway_of(client), clock=ManualClock(), retention=Retention())
        with pytest.raises(StoreUnavailableError, match="missing"):
            await reading.snapshot(ConversationId("conv_1"))

    async def test_what_removal_left_of_a_deleted_one_is_not_torn_but_gone(self) -> None:
        head = items.head_of(self._items()[0])
        (write, _) = plans.plan_deletion(head, call="call")
        client = Client({"Items": [write.item]})
        reading = Reading(gateway_of(client), clock=ManualClock(), retention=Retention())
        stored = await reading.stored(ConversationId("conv_1"))
        assert stored is not None
        assert (stored.head.deleted_by, stored.turns) == ("call", ())
        assert await reading.exported(ConversationId("conv_1")) is None
        assert len(client.requests) == 2

    async def test_what_expiry_left_of_an_old_one_is_not_torn_but_gone(self) -> None:
        head = msgspec.structs.replace(items.head_of(self._items()[0]), active=None)
        client = Client({"Items": [items.head_item(head, expires_at=126)]})
        clock = ManualClock(epoch_seconds=102.0)
        reading = Reading(gateway_of(client), clock=clock, retention=Retention(seconds=100.0))
        assert await reading.exported(ConversationId("conv_1")) is None
        with pytest.raises(ConversationNotFoundError):
            await reading.snapshot(ConversationId("conv_1"))
        assert len(client.requests) == 2


async def test_what_goes_on_is_put_off_and_the_owners_entry_first_and_for_longest() -> None:
    retention = Retention(seconds=100.0)
    request = Request(owner=PrincipalId("usr_ann"), client_message_id="m", conversation_id=None, text="hello")
    plan = plans.plan_message(request, None, Names(SequentialIds()), now=1.0, retention=retention)
    snapshot = items.assemble([write.item for write in plan.writes if write.item["pk"]["S"].startswith("C#")])
    assert snapshot is not None
    client = Client({})
    gateway = gateway_of(client)
    reading = Reading(gateway, clock=ManualClock(), retention=retention)
    await Removal(gateway, reading, retention=retention).put_off(snapshot, now=60.0)
    put_off = [(one["Key"]["sk"]["S"][0], one["ExpressionAttributeValues"][":at"]["N"]) for _, one in client.requests]
    assert put_off == [("C", str(60 + 150 + 86_400)), ("T", "185"), ("G", "185"), ("M", "185")]


async def test_what_goes_on_after_retention_was_turned_off_expires_no_more() -> None:
    request = Request(owner=PrincipalId("usr_ann"), client_message_id="m", conversation_id=None, text="hello")
    plan = plans.plan_message(request, None, Names(SequentialIds()), now=1.0, retention=Retention(seconds=100.0))
    snapshot = items.assemble([write.item for write in plan.writes if write.item["pk"]["S"].startswith("C#")])
    assert snapshot is not None
    client = Client({})
    gateway = gateway_of(client)
    reading = Reading(gateway, clock=ManualClock(), retention=Retention())
    await Removal(gateway, reading, retention=Retention()).put_off(snapshot, now=60.0)
    put_off = [(one["Key"]["sk"]["S"][0], one["UpdateExpression"]) for _, one in client.requests]
    assert put_off == [(kind, "REMOVE expires_at") for kind in "CTGM"]


class TestTable:
    @staticmethod
    def _described(**more: Any) -> dict[str, Any]:
        return {"Table": {"TableStatus": "ACTIVE", **tables.definition(), **more}}

    async def test_one_that_fits_is_taken(self) -> None:
        await tables.verify_table(gateway_of(Client(self._described())), expires=False)

    async def test_an_index_without_what_is_read_from_it_is_refused(self) -> None:
        index = {**tables.definition()["GlobalSecondaryIndexes"][0], "Projection": {"ProjectionType": "KEYS_ONLY"}}
        with pytest.raises(StoreUnavailableError, match="does not project 'body'"):
            await tables.verify_table(
                gateway_of(Client(self._described(GlobalSecondaryIndexes=[index]))), expires=False
            )

    @pytest.mark.parametrize("state", ["DISABLED", "ENABLED"])
    async def test_retention_without_expiry_is_told_and_works(self, state: str) -> None:
        expiry = {"TimeToLiveDescription": {"TimeToLiveStatus": state, "AttributeName": "expires_at"}}
        client = Client(self._described(), expiry)
        await tables.verify_table(gateway_of(client), expires=True)
        assert [operation for operation, _ in client.requests] == ["describe_table", "describe_time_to_live"]

    async def test_making_one_waits_until_it_can_be_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tables, "_POLL_SECONDS", 0.0)
        client = Client({}, self._described(TableStatus="CREATING"), self._described(), {})
        await tables.create_table(gateway_of(client))
        assert [operation for operation, _ in client.requests] == [
            "create_table",
            "describe_table",
            "describe_table",
            "update_time_to_live",
        ]
