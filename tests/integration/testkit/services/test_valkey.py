"""Namespaces of Valkey as a test that misbehaves finds them: nothing outside can be read, changed or ended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from pratique.testkit.errors import ServiceGoneError, ServiceStartError
from pratique.testkit.fixtures import kit_of
from pratique.testkit.host.owner import OwnedHost
from pratique.testkit.kit import Kit
from pratique.testkit.options import LeakMode, Options
from pratique.testkit.services.catalogue import make_services
from pratique.testkit.services.valkey import ValkeyEndpoint, ValkeyNamespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

pytestmark = pytest.mark.integration

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Names that these tests choose themselves must differ between workers, who share the server."""
NEIGHBOUR = f"neighbour{WORKER}"


@pytest.fixture
def neighbour(pratique_valkey: ValkeyEndpoint) -> Iterator[ValkeyNamespace]:
    namespace = ValkeyNamespace(pratique_valkey, NEIGHBOUR)
    namespace.open()
    namespace.client().set(namespace.key("theirs"), "kept")
    yield namespace
    assert pratique_valkey.admin.get(f"{NEIGHBOUR}:theirs") == b"kept"
    namespace.leaks()
    namespace.close()


@pytest.fixture
def client(valkey: ValkeyNamespace) -> Redis:
    client: Redis = valkey.client(decode_responses=True)
    return client


@pytest.mark.parametrize(
    "words",
    [
        "GET neighbour:theirs",
        "SET neighbour:theirs changed",
        "DEL neighbour:theirs",
        "EXPIRE neighbour:theirs 1",
        "TYPE neighbour:theirs",
        "DUMP neighbour:theirs",
        "SET no-namespace 1",
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB 0 1",
        "RANDOMKEY",
        "MIGRATE 127.0.0.1 1 neighbour:theirs 0 10",
        "PUBLISH neighbour:news x",
        "SPUBLISH neighbour:news x",
        "SUBSCRIBE neighbour:news",
        "PSUBSCRIBE *",
        "CONFIG GET maxmemory",
        "CONFIG SET maxmemory 1",
        "ACL LIST",
        "ACL SETUSER neighbour off",
        "ACL DELUSER neighbour",
        "SHUTDOWN NOSAVE",
        "MONITOR",
        "SAVE",
        "BGSAVE",
        "REPLICAOF NO ONE",
        "CLIENT KILL TYPE normal",
        "CLIENT PAUSE 1000",
        "CLIENT UNPAUSE",
        "CLIENT UNBLOCK 1",
        "CLIENT NO-EVICT on",
        "SCRIPT FLUSH",
        "SCRIPT KILL",
        "FUNCTION FLUSH",
        "FUNCTION KILL",
        "FUNCTION DELETE x",
        "MODULE LIST",
        "SLOWLOG RESET",
        "LATENCY RESET",
    ],
)
def test_what_reaches_beyond_the_namespace_is_refused(client: Redis, neighbour: ValkeyNamespace, words: str) -> None:
    assert neighbour.name == NEIGHBOUR
    with pytest.raises(NoPermissionError):
        client.execute_command(*words.replace("neighbour", NEIGHBOUR).split())  # type: ignore[no-untyped-call]  # redis-py has no types for it


@pytest.mark.parametrize(
    "script",
    [
        "return redis.call('GET', 'neighbour:theirs')",
        "return redis.call('FLUSHALL')",
        "return redis.call('PUBLISH', 'neighbour:news', 'x')",
        "return redis.call('CONFIG', 'GET', '*')",
    ],
)
def test_script_has_no_more_rights_than_its_caller(client: Redis, neighbour: ValkeyNamespace, script: str) -> None:
    assert neighbour.name == NEIGHBOUR
    with pytest.raises(ResponseError, match=r"(?i)acl|permission|not allowed"):
        client.eval(script.replace("neighbour", NEIGHBOUR), 0)


def test_sort_by_another_namespaces_keys_is_refused(
    client: Redis, valkey: ValkeyNamespace, neighbour: ValkeyNamespace
) -> None:
    client.rpush(valkey.key("list"), "theirs")
    with pytest.raises(ResponseError):
        client.sort(valkey.key("list"), by="nosort", get=[f"{neighbour.prefix}*"])


def test_transaction_with_a_foreign_key_changes_nothing(client: Redis, valkey: ValkeyNamespace) -> None:
    pipeline = client.pipeline(transaction=True)
    pipeline.set(valkey.key("a"), 1)
    pipeline.set(f"{NEIGHBOUR}:theirs", 2)
    with pytest.raises(ResponseError):
        pipeline.execute()
    assert client.get(valkey.key("a")) is None


def test_scan_shows_names_of_others_and_the_prefix_tells_them_apart(
    client: Redis, valkey: ValkeyNamespace, neighbour: ValkeyNamespace
) -> None:
    """The documented limit: names are no secret."""
    client.set(valkey.key("mine"), 1)
    assert {valkey.key("mine"), neighbour.key("theirs")} <= set(client.scan_iter())
    assert list(client.scan_iter(match=valkey.key("*"))) == [valkey.key("mine")]


def test_scripts_streams_transactions_and_messages_work_inside(client: Redis, valkey: ValkeyNamespace) -> None:
    key = valkey.key
    assert (
        client.eval("redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])", 1, key("a"), "1") == "1"
    )
    with client.pipeline(transaction=True) as pipeline:
        pipeline.incr(key("a"))
        pipeline.expire(key("a"), 100)
        assert pipeline.execute() == [2, True]
    client.xadd(key("stream"), {"field": "value"})
    client.xgroup_create(key("stream"), "group", id="0")
    assert client.xreadgroup("group", "me", {key("stream"): ">"})
    messages = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py has no types for it
    messages.subscribe(key("news"))
    assert messages.get_message(timeout=5)
    assert client.publish(key("news"), "x") == 1
    assert (messages.get_message(timeout=5) or {}).get("data") == "x"


async def test_asyncio_client_is_bound_to_the_namespace(valkey: ValkeyNamespace) -> None:
    async with valkey.async_client() as client:
        assert await client.set(valkey.key("a"), 1)
        with pytest.raises(NoPermissionError):
            await client.get(f"{NEIGHBOUR}:theirs")
    async with valkey.endpoint.async_client(decode_responses=True) as client:
        assert await client.get(valkey.key("a")) == "1"


# What is left behind


@pytest.fixture
def kit(pytestconfig: pytest.Config) -> Kit:
    """A kit beside the run's own, on the same host, with books of its own."""
    host = kit_of(pytestconfig).host
    options = Options(back_ends={"valkey": "process"}, leaks=LeakMode.REPORT)
    return Kit(services=make_services(), options=options, host=host, run="kitest", worker=WORKER)


def shared(kit: Kit) -> ValkeyEndpoint:
    endpoint = kit.endpoint("valkey")
    assert isinstance(endpoint, ValkeyEndpoint)
    return endpoint


def open_in(kit: Kit, owner: str = "the test") -> Any:
    return kit.namespace(shared(kit), owner)


def test_closing_removes_every_key_in_batches_and_in_every_database(kit: Kit, neighbour: ValkeyNamespace) -> None:
    odd = ["*", "[a-z]", "a?b", "\\", "\n", "{tag}", "é", ""]
    with open_in(kit) as namespace:
        client = namespace.client()
        with client.pipeline(transaction=False) as pipeline:
            for number in range(10_001):
                pipeline.set(namespace.key(str(number)), b"x")
            for name in odd:
                pipeline.set(namespace.key(name), b"x")
            pipeline.execute()
        client.select(3)
        client.set(namespace.key("in another database"), 1)
        prefix = namespace.prefix
    for database in (0, 3):
        with shared(kit).client(db=database) as admin:
            assert not list(admin.scan_iter(match=f"{prefix}*", count=10_000))
    assert prefix.rstrip(":").encode() not in shared(kit).admin.acl_users()
    assert neighbour.client().get(neighbour.key("theirs")) == b"kept"


def test_name_that_begins_like_another_is_another(pratique_valkey: ValkeyEndpoint) -> None:
    one = ValkeyNamespace(pratique_valkey, f"pqtest{WORKER}n1")
    eleven = ValkeyNamespace(pratique_valkey, f"pqtest{WORKER}n11")
    for namespace in (one, eleven):
        namespace.open()
    try:
        eleven.client().set(eleven.key("a"), 1)
        with pytest.raises(NoPermissionError):
            one.client().get(eleven.key("a"))
        one.leaks()
        one.close()
        assert eleven.client().get(eleven.key("a")) == b"1"
    finally:
        one.close()
        eleven.leaks()
        eleven.close()


def test_connection_that_the_code_under_test_left_open_is_a_leak_of_that_test(kit: Kit) -> None:
    from redis import Redis

    with open_in(kit, "test_a.py::test_leaky") as namespace:
        leaked = Redis.from_url(namespace.url)
        leaked.ping()
    leaked.close()
    assert [(leak.test, leak.what) for leak in kit.books.leaks] == [
        ("test_a.py::test_leaky", "an open connection, last command 'ping'")
    ]


def test_clients_of_the_namespace_are_no_leak(kit: Kit) -> None:
    with open_in(kit) as namespace:
        namespace.client().ping()
        namespace.client().pubsub().subscribe(namespace.key("a"))
    assert kit.books.leaks == []


def test_server_that_died_is_started_again_for_the_next_namespace_and_told(tmp_path: Any) -> None:
    assert tmp_path
    owned = OwnedHost()
    try:
        kit = Kit(services=make_services(), options=Options(back_ends={}), host=owned.client, run="dead00", worker="")
        with open_in(kit, "first") as namespace:
            namespace.client().set(namespace.key("a"), 1)
        endpoint = shared(kit)
        owned.client.signal(endpoint.connection.key, "kill")
        with open_in(kit, "second") as namespace:
            assert namespace.client().get(namespace.key("a")) is None
        assert shared(kit).port == endpoint.port
        assert kit.books.deaths == ["valkey: had died before second, and was started again, empty"]
    finally:
        owned.close()


def test_url_where_nobody_answers_is_an_error_without_the_password(pytestconfig: pytest.Config) -> None:
    options = Options(back_ends={"valkey": "redis://me:secret@127.0.0.1:1/0"})
    kit = Kit(services=make_services(), options=options, host=kit_of(pytestconfig).host, run="nobody", worker="")
    with pytest.raises(ServiceStartError, match="Nobody answers as Valkey") as caught:
        kit.endpoint("valkey")
    assert "secret" not in str(caught.value)


def test_server_by_url_says_its_version_and_has_namespaces(
    pratique_valkey: ValkeyEndpoint, pytestconfig: pytest.Config
) -> None:
    host = kit_of(pytestconfig).host
    options = Options(back_ends={"valkey": pratique_valkey.url})
    kit = Kit(services=make_services(), options=options, host=host, run="byurl0", worker=WORKER)
    with open_in(kit) as namespace:
        assert namespace.client().set(namespace.key("a"), 1)
        assert namespace.endpoint.version.startswith("9.")


# Scripts that do not end


def run_endlessly(namespace: ValkeyNamespace, script: str) -> None:
    from redis.exceptions import TimeoutError as NoAnswer

    with pytest.raises(NoAnswer):
        namespace.client(socket_timeout=0.2).eval(script, 1, namespace.key("a"))


@pytest.fixture
def lone_kit() -> Iterator[Kit]:
    """On a host of its own: what happens to its server happens to no other test."""
    owned = OwnedHost()
    yield Kit(services=make_services(), options=Options(back_ends={}), host=owned.client, run="b0b0b0", worker="")
    owned.close()


def test_a_script_that_does_not_end_is_ended_and_others_lose_nothing(lone_kit: Kit) -> None:
    with open_in(lone_kit, "innocent") as innocent:
        innocent.client().set(innocent.key("a"), "kept")
        with open_in(lone_kit, "guilty") as guilty:
            run_endlessly(guilty, "while true do end")
        with open_in(lone_kit, "next") as after:
            assert after.client().set(after.key("a"), 1)
        assert innocent.client().get(innocent.key("a")) == b"kept"
    assert lone_kit.books.deaths == []


def test_a_namespace_is_opened_on_a_server_that_is_busy(lone_kit: Kit) -> None:
    guilty = ValkeyNamespace(shared(lone_kit), "pqb0b0b0n99")
    guilty.open()
    run_endlessly(guilty, "while true do end")
    with open_in(lone_kit, "next") as after:
        assert after.client().set(after.key("a"), 1)
    guilty.leaks()
    guilty.close()


def test_a_script_that_has_written_and_does_not_end_costs_the_server_and_says_so(lone_kit: Kit) -> None:
    guilty = ValkeyNamespace(shared(lone_kit), "pqb0b0b0n99")
    guilty.open()
    run_endlessly(guilty, "while true do redis.call('SET', KEYS[1], 1) end")
    with pytest.raises(ServiceGoneError, match="busy with a script, which cannot be ended: UNKILLABLE"):
        guilty.leaks()
    with open_in(lone_kit, "next") as after:
        assert after.client().set(after.key("a"), 1)
    assert lone_kit.books.deaths == ["valkey: had died before next, and was started again, empty"]


def test_connections_are_looked_for_under_a_stopped_clock(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    from redis import Redis

    with open_in(kit) as namespace:
        leaked = Redis.from_url(namespace.url)
        leaked.ping()
        monkeypatch.setattr("time.monotonic", lambda: 1.0)
    monkeypatch.undo()
    leaked.close()
    assert len(kit.books.leaks) == 1
