"""Real boto3 and aiobotocore clients under the guard: no request leaves, whatever the client was told."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import NetworkBlockedError
from pratique.testkit.guard.awsclients import watch_aws_clients
from pratique.testkit.guard.credentials import DEAD_ENDPOINT
from pratique.testkit.guard.hosts import Hosts, parse_hosts
from pratique.testkit.guard.sockets import watch_sockets
from pratique.testkit.guard.watch import Guard, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration
pytest_plugins = ["pytester"]

REAL = "https://dynamodb.eu-central-1.amazonaws.com"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")


@pytest.fixture
def guard() -> Iterator[Guard]:
    with guarded(Guard(), (watch_sockets, watch_aws_clients)) as made:
        yield made


def client(**named: Any) -> Any:
    import boto3

    return boto3.Session().client("dynamodb", region_name="eu-central-1", **named)


@pytest.mark.usefixtures("guard")
def test_an_explicit_endpoint_is_refused_with_service_operation_and_url() -> None:
    with pytest.raises(NetworkBlockedError, match=rf"call AWS at {REAL}/ \(dynamodb.ListTables\)"):
        client(endpoint_url=REAL).list_tables()


def test_a_client_that_was_made_before_is_caught() -> None:
    made = client()
    with guarded(Guard(), (watch_sockets, watch_aws_clients)), pytest.raises(NetworkBlockedError, match="ListTables"):
        made.list_tables()


@pytest.mark.usefixtures("guard")
def test_a_client_without_an_endpoint_fails_at_once_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", DEAD_ENDPOINT)
    with pytest.raises(NetworkBlockedError, match=r"without an endpoint \(dynamodb.ListTables\)"):
        client().list_tables()


def test_a_presigned_query_is_not_shown(guard: Guard) -> None:
    import boto3

    s3 = boto3.Session().client("s3", region_name="eu-central-1", endpoint_url="https://user:pass@s3.example.com")
    with pytest.raises(NetworkBlockedError) as caught:
        s3.list_objects_v2(Bucket="b", Prefix="a-prefix")
    assert "a-prefix" not in str(caught.value)
    assert "pass@" not in str(caught.value)
    assert guard.blocked


def test_what_is_allowed_is_let_through_to_the_next_layer() -> None:
    # The name is allowed and does not exist: it is botocore that fails, not the guard.
    from botocore.config import Config
    from botocore.exceptions import EndpointConnectionError

    config = Config(retries={"max_attempts": 0}, connect_timeout=1)
    guard = Guard(hosts=parse_hosts(["a-name.invalid"], where="the test"))
    with guarded(guard, (watch_sockets, watch_aws_clients)), pytest.raises(EndpointConnectionError):
        client(endpoint_url="http://a-name.invalid", config=config).list_tables()


@pytest.mark.usefixtures("guard")
def test_a_loopback_endpoint_is_used(closed_port: int) -> None:
    from botocore.config import Config
    from botocore.exceptions import EndpointConnectionError

    config = Config(retries={"max_attempts": 0}, connect_timeout=1)
    with pytest.raises(EndpointConnectionError):
        client(endpoint_url=f"http://127.0.0.1:{closed_port}", config=config).list_tables()


@pytest.fixture
def closed_port() -> Iterator[int]:
    from pratique.testkit.ports import reserved_port

    with reserved_port() as port:
        yield port


@pytest.mark.usefixtures("guard")
def test_what_answers_before_sending_is_left_alone() -> None:
    from botocore.stub import Stubber

    made = client(endpoint_url=REAL)
    with Stubber(made) as stub:
        stub.add_response("list_tables", {"TableNames": ["table"]})
        assert made.list_tables()["TableNames"] == ["table"]


@pytest.mark.usefixtures("guard")
def test_instance_metadata_is_refused_even_where_it_was_enabled() -> None:
    from botocore.utils import InstanceMetadataFetcher

    fetcher = InstanceMetadataFetcher(env={}, timeout=1, num_attempts=1)
    with pytest.raises(NetworkBlockedError, match=r"169\.254\.169\.254.*credentials or metadata"):
        fetcher.retrieve_iam_role_credentials()


def _list_tables_later(endpoint: str) -> Callable[[], Any]:
    async def call() -> Any:
        from aiobotocore.session import get_session  # type: ignore[import-untyped]  # it publishes no types

        made = get_session().create_client("dynamodb", region_name="eu-central-1", endpoint_url=endpoint)
        async with made as ready:
            return await ready.list_tables()

    return call


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize("endpoint", [REAL, DEAD_ENDPOINT], ids=["real", "none"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_aiobotocore_is_refused_on_either_loop(endpoint: str, loop: str) -> None:
    import uvloop

    factory = asyncio.new_event_loop if loop == "asyncio" else uvloop.new_event_loop
    with (
        asyncio.Runner(loop_factory=factory) as runner,
        pytest.raises(NetworkBlockedError, match=r"dynamodb\.ListTables"),
    ):
        runner.run(_list_tables_later(endpoint)())


def test_nested_sessions_wrap_once_and_the_inner_hosts_count() -> None:
    import botocore.httpsession

    plain = botocore.httpsession.URLLib3Session.send
    with guarded(Guard(), (watch_aws_clients,)):
        wrapped = botocore.httpsession.URLLib3Session.send
        with guarded(Guard(hosts=Hosts(is_everywhere=True)), (watch_aws_clients,)):
            assert botocore.httpsession.URLLib3Session.send is wrapped
    assert botocore.httpsession.URLLib3Session.send is plain


def test_clients_that_a_test_imports_itself_are_wrapped_as_they_come(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"""
        import sys
        import pytest
        from pratique.testkit.errors import NetworkBlockedError

        def test_it():
            assert "botocore.httpsession" not in sys.modules
            import boto3
            made = boto3.client("dynamodb", endpoint_url="{REAL}")
            with pytest.raises(NetworkBlockedError, match="dynamodb.ListTables"):
                made.list_tables()
            with pytest.raises(NetworkBlockedError, match="without an endpoint .dynamodb.ListTables"):
                boto3.client("dynamodb").list_tables()
        """)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
