"""Faulty connections in front of a real server, through the fixture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import redis

if TYPE_CHECKING:
    from pratique.testkit.choreography.tcp import TcpFaults
    from pratique.testkit.services.valkey import ValkeyEndpoint, ValkeyNamespace

pytestmark = pytest.mark.integration


def client_of(url: str, timeout: float = 10.0) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=timeout, retry=None)


def test_a_namespace_keeps_its_user_behind_the_proxy(tcp_faults: TcpFaults, valkey: ValkeyNamespace) -> None:
    proxy = tcp_faults(valkey)
    with client_of(proxy.url) as client:
        client.set(valkey.key("a"), "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("not-mine", "1")
    with client_of(valkey.url) as direct:
        assert direct.get(valkey.key("a")) == b"1"


def test_a_blackhole_makes_the_clients_timeout_fire(tcp_faults: TcpFaults, pratique_valkey: ValkeyEndpoint) -> None:
    proxy = tcp_faults(pratique_valkey)
    with client_of(proxy.url, timeout=0.2) as client:
        client.ping()
        with proxy.blackhole(), pytest.raises(redis.exceptions.TimeoutError):
            client.ping()


def test_a_reset_is_a_connection_error_and_the_pool_recovers(
    tcp_faults: TcpFaults, pratique_valkey: ValkeyEndpoint
) -> None:
    proxy = tcp_faults(pratique_valkey)
    with client_of(proxy.url) as client:
        client.ping()
        with proxy.reset(after_bytes=2), pytest.raises(redis.exceptions.ConnectionError):
            client.ping()
        assert client.ping()


def test_a_slow_line_makes_a_value_late(tcp_faults: TcpFaults, valkey: ValkeyNamespace) -> None:
    proxy = tcp_faults(valkey)
    with client_of(proxy.url) as client:
        client.set(valkey.key("a"), b"x" * 50_000)
        with proxy.bandwidth(200_000), proxy.latency(0.05):
            started = time.monotonic()
            assert client.get(valkey.key("a")) == b"x" * 50_000
            assert 0.25 < time.monotonic() - started < 10


def test_a_refusal_is_a_connection_error(tcp_faults: TcpFaults, pratique_valkey: ValkeyEndpoint) -> None:
    proxy = tcp_faults(pratique_valkey)
    with proxy.refuse(), client_of(proxy.url) as client, pytest.raises(redis.exceptions.ConnectionError):
        client.ping()
