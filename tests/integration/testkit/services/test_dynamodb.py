"""Namespaces in DynamoDB: what they make, remove, and say was left behind; a server that dies or hangs."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError, WaiterError
from botocore.exceptions import ConnectionError as BotoConnectionError

from pratique.testkit.fixtures import server_fixture
from pratique.testkit.services.aws.dynamodb import DynamoDBNamespace
from pratique.testkit.services.aws.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from pratique.testkit.kit import PrivateServer
    from pratique.testkit.services.aws.dynamodb import DynamoDBEndpoint

pytestmark = pytest.mark.integration
pytest_plugins = ["pytester"]

moto = server_fixture("dynamodb", use="moto")
dynalite = server_fixture("dynamodb", use="dynalite")

ITEM: Any = {"pk": {"S": "a"}}


def make_naked(client: Any, name: str) -> None:
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def fresh_client(endpoint: DynamoDBEndpoint) -> Any:
    """Return a client as code under test makes one, of a session of its own."""
    import boto3

    return boto3.Session().client(
        "dynamodb",
        endpoint_url=endpoint.url,
        region_name=endpoint.region,
        aws_access_key_id=endpoint.credentials.access_key,
        aws_secret_access_key=endpoint.credentials.secret_key,
    )


def open_one(endpoint: DynamoDBEndpoint, name: str, ledger: Ledger) -> DynamoDBNamespace:
    namespace = DynamoDBNamespace(endpoint, name, ledger)
    namespace.open()
    return namespace


def new_ledger() -> Ledger:
    return Ledger(operation="dynamodb.CreateTable", parameter="TableName")


def beside_others(endpoint: DynamoDBEndpoint) -> DynamoDBEndpoint:
    """The same server, as a worker of xdist has it."""
    return replace(endpoint, connection=replace(endpoint.connection, is_shared=True))


def test_a_table_is_made_with_keys_indexes_and_expiry_and_can_be_used_at_once(dynamodb: DynamoDBNamespace) -> None:
    name = dynamodb.create_table(
        "orders", key="customer: S", sort="at: N", indexes={"by_state": "state, at: N"}, ttl="expires"
    )
    assert name == dynamodb.table("orders") == f"{dynamodb.prefix}orders"
    table = dynamodb.resource().Table(name)
    table.put_item(Item={"customer": "ada", "at": 1, "state": "open"})
    assert table.scan(IndexName="by_state")["Items"] == [{"customer": "ada", "at": 1, "state": "open"}]
    assert table.key_schema == [
        {"AttributeName": "customer", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ]


def test_waiters_of_our_clients_do_not_wait_twenty_seconds(dynamodb: DynamoDBNamespace) -> None:
    began = time.monotonic()
    waiter = dynamodb.client().get_waiter("table_exists")
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        waiter.wait(TableName=dynamodb.table("never"), WaiterConfig={"MaxAttempts": 3})
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("server", ["pratique_dynamodb", "moto", "dynalite"])
def test_closing_removes_every_table_with_the_prefix_and_no_other(request: pytest.FixtureRequest, server: str) -> None:
    endpoint: DynamoDBEndpoint = request.getfixturevalue(server)
    ledger, client = new_ledger(), endpoint.client()
    one, other = open_one(endpoint, "pq00ff00n1", ledger), open_one(endpoint, "pq00ff00n11", ledger)
    kept = other.create_table("orders")
    one.create_table("gone-already")
    one.create_table("orders", sort="at: N")
    make_naked(client, one.table("made-without-us"))
    client.delete_table(TableName=one.table("gone-already"))
    one.close()
    one.close()
    left = [name for name in client.list_tables()["TableNames"] if name.startswith("pq00ff00")]
    assert left == [kept]
    other.close()


@pytest.mark.parametrize("server", ["pratique_dynamodb", "moto"])
def test_closing_removes_a_table_that_is_protected_against_it(request: pytest.FixtureRequest, server: str) -> None:
    namespace = open_one(request.getfixturevalue(server), "pq00fa00n1", new_ledger())
    table = namespace.create_table("orders", DeletionProtectionEnabled=True)
    namespace.close()
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        namespace.client().describe_table(TableName=table)


def test_a_hundred_namespaces_at_once_use_the_same_name(pratique_dynamodb: DynamoDBEndpoint) -> None:
    ledger = new_ledger()
    many = [open_one(pratique_dynamodb, f"pq00fe00n{number}", ledger) for number in range(100)]
    client = pratique_dynamodb.client()
    for number, namespace in enumerate(many):
        item: Any = {**ITEM, "n": {"N": str(number)}}
        client.put_item(TableName=namespace.create_table("orders"), Item=item)
    seen = [client.get_item(TableName=one.table("orders"), Key=ITEM)["Item"]["n"]["N"] for one in many]
    assert seen == [str(number) for number in range(100)]
    for namespace in many:
        namespace.close()
    pages = client.get_paginator("list_tables").paginate()
    assert not [name for page in pages for name in page["TableNames"] if name.startswith("pq00fe00n")]


def test_what_is_made_outside_of_namespaces_is_told_once_and_with_what_is_known_of_its_maker(
    pratique_launch: Callable[..., PrivateServer[DynamoDBEndpoint]],
) -> None:
    endpoint = pratique_launch("dynamodb").endpoint
    early = fresh_client(endpoint)  # made before the ledger: it is not seen
    make_naked(early, "there-before")
    ledger = new_ledger()
    ledger.install()
    suite = open_one(endpoint, "pq00fd00n1", ledger)
    seen = fresh_client(endpoint)
    make_naked(seen, "by-a-suite-fixture")

    test = open_one(endpoint, "pq00fd00n2", ledger)
    test.create_table("orders")
    make_naked(seen, "by-the-test")
    make_naked(early, "by-somebody")
    with pytest.raises(ClientError, match="ResourceInUseException"):
        make_naked(seen, "there-before")
    assert test.leaks() == [
        "the table 'by-somebody', in no namespace; it appeared meanwhile, not through a client that the kit sees",
        "the table 'by-the-test', in no namespace",
    ]
    test.close()

    quiet = open_one(endpoint, "pq00fd00n3", ledger)
    assert quiet.leaks() == []
    quiet.close()
    assert suite.leaks() == []
    suite.close()


def test_beside_other_workers_only_what_this_process_made_is_a_leak(
    pratique_launch: Callable[..., PrivateServer[DynamoDBEndpoint]],
) -> None:
    endpoint = beside_others(pratique_launch("dynamodb").endpoint)
    of_another_worker = fresh_client(endpoint)
    ledger = new_ledger()
    ledger.install()
    test = open_one(endpoint, "pq00fc00n1", ledger)
    make_naked(of_another_worker, "theirs")
    assert test.leaks() == []
    make_naked(fresh_client(endpoint), "ours")
    assert test.leaks() == ["the table 'ours', in no namespace"]
    test.close()


def test_a_process_under_test_finds_the_server_by_its_environment(dynamodb: DynamoDBNamespace) -> None:
    table = dynamodb.create_table("orders")
    code = (
        "import sys, boto3\n"
        "boto3.client('dynamodb').put_item(TableName=sys.argv[1], Item={'pk': {'S': 'from outside'}})\n"
    )
    subprocess.run([sys.executable, "-c", code, table], env=dynamodb.environment(), check=True, timeout=30)
    assert dynamodb.client().scan(TableName=table)["Items"] == [{"pk": {"S": "from outside"}}]


@pytest.mark.anyio
async def test_an_asyncio_client_reaches_the_same_tables(dynamodb: DynamoDBNamespace) -> None:
    pytest.importorskip("aiobotocore")
    table = dynamodb.create_table("orders")
    async with dynamodb.endpoint.async_client() as client:
        await client.put_item(TableName=table, Item=ITEM)
    async with dynamodb.async_client(region_name="us-east-1") as client:
        assert (await client.get_item(TableName=table, Key=ITEM))["Item"] == ITEM
    assert dynamodb.client().scan(TableName=table)["Items"] == [ITEM]


def test_a_server_that_was_killed_is_told_within_seconds_and_one_that_is_started_again_is_empty(
    pratique_launch: Callable[..., PrivateServer[DynamoDBEndpoint]],
) -> None:
    server = pratique_launch("dynamodb")
    namespace = open_one(server.endpoint, "pq00fb00n1", new_ledger())
    table = namespace.create_table("orders")
    server.kill()
    began = time.monotonic()
    with pytest.raises(BotoConnectionError, match=server.url):
        namespace.client().put_item(TableName=table, Item=ITEM)
    assert time.monotonic() - began < 10
    server.restart()
    assert namespace.client().list_tables()["TableNames"] == []
    namespace.close()


def test_a_server_that_hangs_is_given_up_by_the_read_timeout(
    pratique_launch: Callable[..., PrivateServer[DynamoDBEndpoint]],
) -> None:
    server = pratique_launch("dynamodb")
    client = server.endpoint.client(config=Config(read_timeout=0.3))
    client.list_tables()
    server.pause()
    with pytest.raises(ReadTimeoutError):
        client.list_tables()
    server.resume()
    assert server.endpoint.client().list_tables()["TableNames"] == []


@pytest.mark.slow
def test_workers_make_the_same_table_at_once_and_leaks_are_told_with_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest, boto3

        @pytest.mark.parametrize("number", range(8))
        def test_own(dynamodb, number):
            table = dynamodb.create_table("orders")
            for item in range(5):
                dynamodb.client().put_item(TableName=table, Item={"pk": {"S": f"{number}-{item}"}})
            assert dynamodb.client().scan(TableName=table)["Count"] == 5

        def test_naked(dynamodb):
            boto3.client("dynamodb", **{"endpoint_url": dynamodb.url, "region_name": "us-east-1"},
                aws_access_key_id="testing", aws_secret_access_key="testing").create_table(
                    TableName="naked", BillingMode="PAY_PER_REQUEST",
                    KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                    AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}])
        """
    )
    ran = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n2")
    ran.assert_outcomes(passed=9)
    ran.stdout.fnmatch_lines(["*test_naked: dynamodb: the table 'naked', in no namespace"])
    assert str(ran.stdout).count("'naked'") == 1
    assert len([line for line in ran.outlines if line.startswith("dynamodb: ministack")]) == 1
