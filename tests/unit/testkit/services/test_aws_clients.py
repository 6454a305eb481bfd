"""Clients take nothing from the machine they run on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.services.aws.dynamodb import DynamoDBEndpoint
from pratique.testkit.services.aws.kinesis import KinesisEndpoint
from pratique.testkit.services.aws.s3 import S3Endpoint
from pratique.testkit.services.aws.sqs import SQSEndpoint
from pratique.testkit.services.interface import Backend, Connection

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

URL = "http://127.0.0.1:4567"
CONNECTION = Connection(url=URL, backend=Backend.PROCESS, provider="ministack", version="1")


@pytest.fixture
def endpoint() -> SQSEndpoint:
    return SQSEndpoint(service="sqs", connection=CONNECTION)


def test_a_profile_that_does_not_exist_another_endpoint_and_region_are_not_looked_at(
    endpoint: SQSEndpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile real]\nregion = eu-west-1\nendpoint_url = http://192.0.2.1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://192.0.2.1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    client = endpoint.client()
    assert (client.meta.endpoint_url, client.meta.region_name) == (URL, "us-east-1")
    assert endpoint.resource().meta.client.meta.endpoint_url == URL


def test_a_proxy_of_the_environment_is_not_used(endpoint: SQSEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the client that the rest of the process shares, whoever makes it first."""
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for client in (endpoint.client(), endpoint.client(config=Config(read_timeout=1)), endpoint.resource().meta.client):
        made: Any = client
        assert made._endpoint.http_session._proxy_config.proxy_url_for(URL) is None


def test_every_call_has_a_deadline_and_few_attempts(endpoint: SQSEndpoint) -> None:
    config: Any = endpoint.client().meta.config
    assert (config.connect_timeout, config.read_timeout) == (5.0, 25.0)
    assert config.retries["total_max_attempts"] == 2
    assert DynamoDBEndpoint.read_seconds == S3Endpoint.read_seconds == KinesisEndpoint.read_seconds == 10.0


def test_options_make_another_client_with_the_rest_as_it_was(endpoint: SQSEndpoint) -> None:
    shared = endpoint.client()
    other: Any = endpoint.client(config=Config(read_timeout=1), region_name="eu-west-1")
    assert endpoint.client() is shared
    assert other is not shared
    assert (other.meta.config.read_timeout, other.meta.config.connect_timeout) == (1, 5.0)
    assert (other.meta.region_name, other.meta.endpoint_url) == ("eu-west-1", URL)


def test_waiters_look_often() -> None:
    endpoint = DynamoDBEndpoint(service="dynamodb", connection=CONNECTION)
    waiter: Any = endpoint.client().get_waiter("table_exists")
    assert waiter.config.delay * waiter.config.max_attempts == pytest.approx(30.0)
    assert waiter.config.delay < 0.1


def test_variables_of_several_services_go_together_and_lead_to_no_account(endpoint: SQSEndpoint) -> None:
    tables = DynamoDBEndpoint(service="dynamodb", connection=CONNECTION, region="eu-west-1")
    both = {**endpoint.environment(), **tables.environment()}
    assert both["AWS_ENDPOINT_URL_SQS"] == both["AWS_ENDPOINT_URL_DYNAMODB"] == URL
    assert both["AWS_REGION"] == both["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert both["AWS_CONFIG_FILE"] == both["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert both["AWS_EC2_METADATA_DISABLED"] == "true"


def test_the_secret_is_not_shown(endpoint: SQSEndpoint) -> None:
    assert "secret" not in repr(endpoint)


def test_without_aiobotocore_an_asyncio_client_is_refused_with_what_to_do(
    endpoint: SQSEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore.session", None)
    with pytest.raises(ServiceMissingError, match="aiobotocore") as raised:
        endpoint.async_client()
    assert raised.value.hint == "`pip install aiobotocore`."
