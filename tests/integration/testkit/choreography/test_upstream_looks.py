"""Looking at what came to the real WireMock: what is sent just now, never whole, or nothing at all."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from pratique.testkit.choreography import at_least, ok
from pratique.testkit.errors import ServiceGoneError, TestkitUsageError

if TYPE_CHECKING:
    from pratique.testkit.choreography.upstream import Upstream
    from pratique.testkit.fixtures import Launcher

pytestmark = pytest.mark.integration


def send_and_forget(url: str, path: str, *, body: bytes = b"", promised: int = 0) -> None:
    parts = urlsplit(url + path)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {promised or len(body)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(head.encode() + body)


def test_a_request_that_was_sent_just_now_is_waited_for(upstream: Upstream) -> None:
    upstream.script(ok())
    for number in range(1, 21):
        send_and_forget(upstream.url, f"/{number}")
        assert len(upstream.verify(count=number)) == number


def test_requests_that_come_late_are_counted_in_a_block(upstream: Upstream) -> None:
    upstream.script(ok())
    with upstream.reached(2):
        send_and_forget(upstream.url, "/a")
        late = threading.Timer(0.05, send_and_forget, (upstream.url, "/b"))
        late.start()
    late.join()


def test_a_request_that_was_cut_off_in_its_body_is_none(upstream: Upstream) -> None:
    upstream.script(ok())
    send_and_forget(upstream.url, "/a", body=b"abc", promised=100)
    upstream.verify(count=0)


def test_what_nothing_came_for_to_show_it_fails(upstream: Upstream) -> None:
    upstream.script(ok())
    for expected in ({"json": {"a": 1}}, {"gaps": at_least(0.1)}, {"waits": at_least(0.1)}):
        with pytest.raises(AssertionError, match="expected at least"):
            upstream.verify(**expected)
    upstream.verify(count=0, json={"a": 1})


def test_a_filter_that_nothing_can_match_is_refused_and_no_look(upstream: Upstream) -> None:
    with upstream.reached(1):
        send_and_forget(upstream.url, "/a")
    for which in ({"method": "get"}, {"path": "a"}, {"client": "nobody"}):
        for look in (upstream.verify, upstream.attempts, upstream.gaps):
            with pytest.raises(TestkitUsageError):
                look(**which)
    assert len(upstream.leaks()) == 1
    upstream.problems()


@pytest.mark.slow
def test_bodies_that_fill_the_servers_memory_are_named_as_what_ended_it(pratique_launch: Launcher) -> None:
    from pratique.testkit.services.wiremock import WireMockService

    scope = WireMockService().namespace(pratique_launch("wiremock").endpoint, "memory")
    scope.open()
    scope.script(ok())
    body = b"x" * (64 << 20)
    with contextlib.suppress(OSError, http.client.HTTPException):
        for _ in range(16):
            send_and_forget(scope.url, "/large", body=body)
    with pytest.raises(ServiceGoneError) as caught:
        scope.verify()
    assert "ran out of its 768 MB of memory" in str(caught.value)
    assert "whole body" in str(caught.value.hint)
