"""What every provider of DynamoDB shows, and that its declared gaps are gaps."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from pratique.testkit.fixtures import namespace_fixture, server_fixture
from pratique.testkit.services.aws.fidelity import DYNAMODB

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace

pytestmark = pytest.mark.integration

PROBES: dict[str, Callable[[DynamoDBNamespace], None]] = {}
PROVIDERS = ("ministack", "moto", "dynalite", "dynamodb-local", "ministack-container")

ministack, moto, dynalite, local, container = (server_fixture("dynamodb", use=use) for use in PROVIDERS)
ministack_tables = namespace_fixture("ministack")
moto_tables = namespace_fixture("moto")
dynalite_tables = namespace_fixture("dynalite")
local_tables = namespace_fixture("local")
container_tables = namespace_fixture("container")
FIXTURES = ("ministack_tables", "moto_tables", "dynalite_tables", "local_tables", "container_tables")

EXPIRES_WITHIN_SECONDS = 70.0  # MiniStack looks once a minute


@pytest.fixture(params=FIXTURES)
def tables(request: pytest.FixtureRequest) -> DynamoDBNamespace:
    found: DynamoDBNamespace = request.getfixturevalue(request.param)
    return found


def probe(function: Callable[[DynamoDBNamespace], None]) -> Callable[[DynamoDBNamespace], None]:
    PROBES[function.__name__] = function
    return function


@pytest.mark.parametrize("capability", sorted(set(DYNAMODB) - {"ttl_expiry"}))
def test_a_capability_is_shown_unless_it_is_a_declared_gap(
    tables: DynamoDBNamespace, capability: str, hold_to_gaps: Callable[..., None]
) -> None:
    hold_to_gaps(tables, capability, PROBES[capability])


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_items_expire_unless_that_is_a_declared_gap(
    ministack_tables: DynamoDBNamespace, moto_tables: DynamoDBNamespace, dynalite_tables: DynamoDBNamespace
) -> None:
    item: Any = {"pk": text("gone"), "expires": {"N": str(int(time.time()) - 3600)}}
    written = {}
    for tables in (ministack_tables, moto_tables, dynalite_tables):
        table = tables.create_table("t", ttl="expires" if tables.endpoint.supports("ttl") else None)
        tables.client().put_item(TableName=table, Item=item)
        written[table] = tables

    def is_there(table: str) -> bool:
        return "Item" in written[table].client().get_item(TableName=table, Key={"pk": text("gone")})

    deadline = time.monotonic() + EXPIRES_WITHIN_SECONDS
    while any(is_there(table) for table, tables in written.items() if tables.endpoint.supports("ttl_expiry")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert [is_there(table) for table in written] == [
        not tables.endpoint.supports("ttl_expiry") for tables in written.values()
    ]


def text(value: str) -> Any:
    return {"S": value}


def put(tables: DynamoDBNamespace, table: str, pk: str, **more: Any) -> None:
    tables.client().put_item(TableName=table, Item={"pk": text(pk), **more})


@probe
def transactions(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    put(tables, table, "taken")
    fresh = {"Put": {"TableName": table, "Item": {"pk": text("fresh")}}}
    refused = {
        "Put": {
            "TableName": table,
            "Item": {"pk": text("taken")},
            "ConditionExpression": "attribute_not_exists(pk)",
        }
    }
    writes: Any = [fresh, refused]
    with pytest.raises(ClientError, match="TransactionCanceledException") as raised:
        tables.client().transact_write_items(TransactItems=writes)
    response: Any = raised.value.response
    codes = [one["Code"] for one in response["CancellationReasons"]]
    assert codes == ["None", "ConditionalCheckFailed"]
    assert "Item" not in tables.client().get_item(TableName=table, Key={"pk": text("fresh")})
    only: Any = [fresh]
    tables.client().transact_write_items(TransactItems=only)
    gets: Any = [{"Get": {"TableName": table, "Key": {"pk": text("fresh")}}}]
    assert tables.client().transact_get_items(TransactItems=gets)["Responses"][0]["Item"] == {"pk": text("fresh")}


@probe
def transaction_token(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    put(tables, table, "count", n={"N": "0"})
    add: Any = {
        "Update": {
            "TableName": table,
            "Key": {"pk": text("count")},
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }
    for _ in range(2):
        tables.client().transact_write_items(TransactItems=[add], ClientRequestToken="once")
    assert tables.client().get_item(TableName=table, Key={"pk": text("count")})["Item"]["n"] == {"N": "1"}


@probe
def conditional_writes(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    put(tables, table, "a", state=text("old"))
    with pytest.raises(ClientError, match="ConditionalCheckFailedException") as raised:
        tables.client().put_item(
            TableName=table,
            Item={"pk": text("a"), "state": text("new")},
            ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    response: Any = raised.value.response
    assert response.get("Item") == {"pk": text("a"), "state": text("old")}


@probe
def ttl(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t", ttl="expires")
    about = tables.client().describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert about["AttributeName"] == "expires"
    assert about["TimeToLiveStatus"] in {"ENABLED", "ENABLING"}


@probe
def scan_order(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    names = [f"item-{number:02}" for number in range(32)]
    for name in names:
        put(tables, table, name)
    scanned = [item["pk"]["S"] for item in tables.client().scan(TableName=table)["Items"]]
    assert sorted(scanned) == names
    assert scanned != names


@probe
def sort_order(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t", sort="sk: N")
    for number in ("10", "-3", "9", "1.5", "100"):
        put(tables, table, "a", sk={"N": number})
    found = tables.client().query(
        TableName=table,
        KeyConditionExpression="pk = :a",
        ExpressionAttributeValues={":a": text("a")},
        ScanIndexForward=False,
    )
    assert [Decimal(item["sk"]["N"]) for item in found["Items"]] == [100, 10, 9, Decimal("1.5"), -3]


@probe
def gsi(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t", indexes={"by_state": "state, at: N"})
    put(tables, table, "a", state=text("open"), at={"N": "2"})
    put(tables, table, "b", state=text("open"), at={"N": "1"})
    put(tables, table, "not in the index")
    found = tables.client().query(
        TableName=table,
        IndexName="by_state",
        KeyConditionExpression="#s = :open",
        ExpressionAttributeNames={"#s": "state"},
        ExpressionAttributeValues={":open": text("open")},
    )
    assert [item["pk"]["S"] for item in found["Items"]] == ["b", "a"]
    assert tables.client().scan(TableName=table, IndexName="by_state")["Count"] == 2


@probe
def streams(tables: DynamoDBNamespace) -> None:
    specification = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    table = tables.create_table("t", StreamSpecification=specification)
    arn = tables.client().describe_table(TableName=table)["Table"].get("LatestStreamArn", "")
    assert arn
    put(tables, table, "a", n={"N": "1"})
    put(tables, table, "a", n={"N": "2"})
    tables.client().delete_item(TableName=table, Key={"pk": text("a")})
    client = tables.endpoint.streams_client()
    shard = client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = client.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    records = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    assert records[1]["dynamodb"]["OldImage"]["n"] == {"N": "1"}


@probe
def item_size_limit(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    put(tables, table, "fits", body=text("x" * (390 * 1024)))
    with pytest.raises(ClientError, match="ValidationException"):
        put(tables, table, "does not", body=text("x" * (400 * 1024)))


@probe
def page_limit(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t", sort="sk: N")
    for number in range(4):
        put(tables, table, "a", sk={"N": str(number)}, body=text("x" * 380_000))
    page = tables.client().scan(TableName=table)
    assert page["Count"] in {2, 3}  # of 1.5 MB; whether the item that crosses the limit is in it is not documented
    assert "LastEvaluatedKey" in page


@probe
def throughput_limit(tables: DynamoDBNamespace) -> None:
    throughput = {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
    table = tables.create_table("t", BillingMode="PROVISIONED", ProvisionedThroughput=throughput)

    def write_more_than_is_saved_up() -> None:  # which is five minutes' worth
        for number in range(40):
            put(tables, table, str(number), body=text("x" * 10_000))

    with pytest.raises(ClientError, match="ProvisionedThroughputExceededException"):
        write_more_than_is_saved_up()


@probe
def batch_limits(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    writes: Any = [{"PutRequest": {"Item": {"pk": text(str(number))}}} for number in range(26)]
    with pytest.raises(ClientError, match="ValidationException"):
        tables.client().batch_write_item(RequestItems={table: writes})
    keys: Any = [{"pk": text(str(number))} for number in range(101)]
    with pytest.raises(ClientError, match="ValidationException"):
        tables.client().batch_get_item(RequestItems={table: {"Keys": keys}})


@probe
def key_validation(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    for item in ({"pk": {"S": ""}}, {"pk": {"N": "1"}}, {"other": {"S": "a"}}):
        wrong: Any = item
        with pytest.raises(ClientError, match="ValidationException"):
            tables.client().put_item(TableName=table, Item=wrong)


@probe
def reserved_words(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    with pytest.raises(ClientError, match=r"ValidationException.*reserved"):
        tables.client().update_item(
            TableName=table,
            Key={"pk": text("a")},
            UpdateExpression="SET status = :new",
            ExpressionAttributeValues={":new": text("new")},
        )


@probe
def number_precision(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    exact = "1234567890123456789012345678901234567.8"
    put(tables, table, "a", n={"N": exact})
    assert tables.client().get_item(TableName=table, Key={"pk": text("a")})["Item"]["n"] == {"N": exact}
    with pytest.raises(ClientError, match="ValidationException"):
        put(tables, table, "a", n={"N": exact + "9"})


@probe
def consumed_capacity(tables: DynamoDBNamespace) -> None:
    table = tables.create_table("t")
    item: Any = {"pk": text("a"), "body": text("x" * 3000)}
    answer = tables.client().put_item(TableName=table, Item=item, ReturnConsumedCapacity="TOTAL")
    assert answer["ConsumedCapacity"]["CapacityUnits"] == 3.0


@probe
def partiql(tables: DynamoDBNamespace) -> None:
    table, client = tables.create_table("t"), tables.client()
    client.execute_statement(Statement=f"INSERT INTO \"{table}\" VALUE {{'pk': 'a', 'n': 1}}")
    select = f'SELECT n FROM "{table}" WHERE pk = ?'  # noqa: S608 - our own table
    assert client.execute_statement(Statement=select, Parameters=[text("a")])["Items"] == [{"n": {"N": "1"}}]
