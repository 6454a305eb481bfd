"""Exercises the test kit's public API under a second type checker; checked, not run."""

from __future__ import annotations

from typing import assert_type

from redis import Redis

from pratique.testkit import (
    DynamoDBNamespace,
    Endpoint,
    Launcher,
    ModelServerNamespace,
    PrivateServer,
    RegistryNamespace,
    S3Namespace,
    SQSNamespace,
    TcpFaults,
    Upstream,
    ValkeyEndpoint,
    ValkeyNamespace,
    WireMockEndpoint,
    eventually,
    eventually_async,
    namespace_fixture,
    reserved_port,
    server_fixture,
    within,
)
from pratique.testkit.choreography import at_most, exhausted, fail, lognormal, ok, reset, sse
from pratique.testkit.choreography.admin import WireMockAdmin
from pratique.testkit.services.modelclient import ModelClient
from pratique.testkit.services.registryclient import RegistryClient

__all__: list[str] = []

second_opinion = server_fixture("dynamodb", use="moto")
second_tables = namespace_fixture("second_opinion", scope="module")


def stores(valkey: ValkeyNamespace, dynamodb: DynamoDBNamespace, s3: S3Namespace, sqs: SQSNamespace) -> None:
    assert_type(valkey.client(), Redis)
    assert_type(valkey.key("a"), str)
    assert_type(valkey.url, str)
    assert_type(valkey.endpoint, ValkeyEndpoint)
    assert_type(valkey.endpoint.supports("acl"), bool)
    assert_type(dynamodb.create_table("orders", key="id: S", sort="at: N"), str)
    assert_type(s3.create_bucket("files"), str)
    assert_type(sqs.create_queue("jobs.fifo"), str)


def servers(registry: RegistryNamespace, model_server: ModelServerNamespace, wiremock: WireMockEndpoint) -> None:
    assert_type(registry.client(), RegistryClient)
    assert_type(registry.url, str)
    assert_type(model_server.client(), ModelClient)
    assert_type(model_server.endpoint.client(), ModelClient)
    assert_type(wiremock.client(), WireMockAdmin)


def failures(upstream: Upstream, tcp_faults: TcpFaults, pratique_launch: Launcher) -> None:
    upstream.script(fail(503, after=4.8), fail(503, retry_after=1), reset(), ok(json={"a": 1}))
    upstream.on("POST", "/v1/chat").script(sse([{"token": "a"}], broken_after=1), then=exhausted())
    upstream.script(ok(text="slow", after=lognormal(median=0.2, sigma=0.5)))
    upstream.verify(count=3, gaps=at_most(0.5), waits=at_most(0.5))
    with upstream.reached(0):
        pass
    proxy = tcp_faults(upstream)
    with proxy.latency(0.2, jitter=0.05), within(1.0):
        assert_type(proxy.url, str)
    server = pratique_launch("valkey")
    server.pause()
    server.resume()
    private: PrivateServer[Endpoint] = server
    private.kill()


async def waiting() -> None:
    eventually(lambda: True, within=1.0)
    async with within(0.5):
        await eventually_async(lambda: True, within=1.0)
    with reserved_port() as port:
        assert_type(port, int)
