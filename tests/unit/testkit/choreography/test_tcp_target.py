"""What a proxy can be put in front of."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from pratique.testkit.choreography.target import reach, read_target
from pratique.testkit.errors import TargetUnreachableError, TestkitUsageError
from pratique.testkit.ports import reserved_port

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("redis://user:p%40ss@db.test:6380/3?timeout=1", "redis://user:p%40ss@h:9/3?timeout=1"),
        ("redis://db.test", "redis://h:9"),
        ("https://db.test/path#part", "https://h:9/path#part"),
        ("db.test:80", "tcp://h:9"),
        (("db.test", 80), "tcp://h:9"),
        (("::1", 80), "tcp://h:9"),
        (SimpleNamespace(url="http://a.test/x"), "http://h:9/x"),
    ],
)
def test_only_host_and_port_of_the_url_change(target: Any, url: str) -> None:
    assert read_target(target).url_at("h", 9) == url


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [("rediss://a.test", "a.test", 6379), (("::1", 80), "::1", 80), ("http://[::1]:81", "::1", 81)],
)
def test_host_and_port_are_found(target: Any, host: str, port: int) -> None:
    assert (read_target(target).host, read_target(target).port) == (host, port)


@pytest.mark.parametrize(
    "target",
    [None, 6379, "", "a.test", "amqp://a.test", "http://:80", "a.test:port", "a.test:99999", ("a", 1, 2), object()],
)
def test_what_leads_nowhere_is_refused(target: Any) -> None:
    with pytest.raises(TestkitUsageError, match="Expected an endpoint"):
        read_target(target)


def test_a_target_that_nobody_answers_at_is_named() -> None:
    with (
        reserved_port() as port,
        pytest.raises(TargetUnreachableError, match=rf"127\.0\.0\.1:{port} cannot be reached"),
    ):
        reach(read_target(("127.0.0.1", port)), 1.0)


def test_a_target_that_comes_later_is_not_asked() -> None:
    with reserved_port() as port:
        assert reach(read_target(("127.0.0.1", port)), None) == (socket.AF_INET, ("127.0.0.1", port))


def test_a_target_that_answers_is_found_where_it_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert reach(read_target(f"localhost:{server.getsockname()[1]}"), 1.0)[1] == server.getsockname()
