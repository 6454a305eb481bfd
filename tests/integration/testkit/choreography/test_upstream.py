"""Scripts on the real WireMock: what a client sees, and what is known of it afterwards."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from pratique.testkit.choreography import (
    at_least,
    at_most,
    between,
    dribbled,
    empty,
    exhausted,
    fail,
    garbage,
    hang,
    lognormal,
    ok,
    reset,
    sse,
    truncated,
    uniform,
)
from pratique.testkit.errors import ServiceGoneError, TestkitUsageError

if TYPE_CHECKING:
    from pratique.testkit.choreography.upstream import Upstream
    from pratique.testkit.fixtures import Launcher
    from pratique.testkit.services.wiremock import WireMockEndpoint

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float


def ask(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 10.0,
) -> Answer:
    parts = urlsplit(url)
    assert parts.hostname is not None
    began = time.monotonic()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers or {})
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, answer.read(), time.monotonic() - began)
    finally:
        connection.close()


def read_raw(url: str, timeout: float = 10.0) -> tuple[list[tuple[float, bytes]], str]:
    """Return what came, when, and how it ended."""
    parts = urlsplit(url)
    came: list[tuple[float, bytes]] = []
    began = time.monotonic()
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as connection:
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while True:
            try:
                data = connection.recv(65536)
            except ConnectionResetError:
                return came, "reset"
            if not data:
                return came, "closed"
            came.append((time.monotonic() - began, data))


def test_a_script_is_followed_step_by_step_and_its_last_step_repeated(upstream: Upstream) -> None:
    upstream.script(fail(503, after=0.2, retry_after=1), fail(429), ok(json={"answer": 42}))
    first = ask(upstream.url)
    assert (first.status, first.headers["retry-after"]) == (503, "1")
    assert first.seconds >= 0.2
    assert ask(upstream.url + "/v1/chat").status == 429
    assert [json.loads(ask(upstream.url).body) for _ in range(2)] == [{"answer": 42}] * 2
    attempts = upstream.verify(count=4)
    assert [one.step_number for one in attempts] == [1, 2, 3, 3]
    assert [one.status for one in attempts] == [503, 429, 200, 200]
    assert attempts[0].delay_seconds == 0.2
    assert upstream.unused() == []


def test_then_answers_all_that_come_after_the_script(upstream: Upstream) -> None:
    upstream.script(ok(text="once"), then=fail(500))
    assert [ask(upstream.url).status for _ in range(3)] == [200, 500, 500]
    upstream.verify(count=3)


def test_a_request_after_an_exhausted_script_gets_500_and_fails_verification(upstream: Upstream) -> None:
    upstream.script(ok(), then=exhausted())
    assert ask(upstream.url).status == 200
    upstream.verify(count=1)
    late = ask(upstream.url)
    assert (late.status, json.loads(late.body)) == (500, {"error": "script exhausted"})
    with pytest.raises(AssertionError, match=r"attempt 2 came when .* exhausted"):
        upstream.verify()


def test_a_path_has_its_own_script_beside_the_one_for_all(upstream: Upstream) -> None:
    upstream.script(fail(404))
    upstream.on("POST", "/v1/chat").script(ok(json=[1]), fail(500))
    url = upstream.url + "/v1/chat"
    assert ask(url + "?x=1&y=%20", method="POST", body=b'{"a": "\xc3\xa9"}').status == 200
    assert ask(url).status == 404
    assert ask(url, method="POST", body=b"{").status == 500
    (asked,) = upstream.verify(method="POST", path="/v1/chat", count=2)[:1]
    assert (asked.json, asked.query) == ({"a": "é"}, "x=1&y=%20")
    upstream.verify(method="GET", count=1)
    with pytest.raises(AssertionError, match=r"attempt 3: expected JSON, got b'\{'"):
        upstream.verify(method="POST", json={"a": "é"})


def test_a_second_script_takes_the_place_of_the_first_from_its_beginning(upstream: Upstream) -> None:
    upstream.script(fail(500), fail(501))
    assert ask(upstream.url).status == 500
    upstream.script(ok(status=201), ok(status=202))
    assert [ask(upstream.url).status for _ in range(3)] == [201, 202, 202]
    upstream.verify(count=4)


def test_what_matches_no_script_is_told_with_the_nearest(upstream: Upstream) -> None:
    upstream.on("POST", "/v1/chat").script(ok())
    assert ask(upstream.url + "/v1/chats", method="POST").status == 404
    assert ask(upstream.url + "/v1/chat").status == 404
    with pytest.raises(AssertionError, match="matched no script") as caught:
        upstream.verify()
    assert "POST /v1/chats -> 404 no script matched" in str(caught.value)
    sections = dict(upstream.report())
    assert "near: POST /v1/chat (the path differs)" in sections["near misses"]
    assert "near: POST /v1/chat (the method differs)" in sections["near misses"]


def test_problems_that_no_test_looked_at_are_leaks(upstream: Upstream) -> None:
    assert ask(upstream.url).status == 404
    assert "there is no script at all" in upstream.leaks()[0]
    assert len(upstream.problems()) == 1
    assert upstream.leaks() == []


def test_a_reset_is_a_reset_and_an_empty_answer_is_empty(upstream: Upstream) -> None:
    upstream.script(reset(after=0.05), empty(), garbage(), ok())
    assert read_raw(upstream.url) == ([], "reset")
    assert read_raw(upstream.url) == ([], "closed")
    with pytest.raises(http.client.BadStatusLine):
        ask(upstream.url)
    assert ask(upstream.url).status == 200
    assert [one.status for one in upstream.attempts()] == [None, None, None, 200]


def test_a_hang_ends_at_its_limit(upstream: Upstream) -> None:
    upstream.script(hang(limit=0.3))
    with pytest.raises(TimeoutError):
        ask(upstream.url, timeout=0.1)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(upstream.url)


def test_hangs_hold_up_nobody_else(upstream: Upstream) -> None:
    """More of them than the server has threads: delays are asynchronous."""
    upstream.on("GET", "/slow").script(ok(after=3.0))
    upstream.on("GET", "/fast").script(ok())
    with ThreadPoolExecutor(150) as pool:
        slow = [pool.submit(ask, upstream.url + "/slow") for _ in range(150)]
        time.sleep(0.4)
        fast = ask(upstream.url + "/fast")
        still = sum(not one.done() for one in slow)
        assert [one.result().status for one in slow] == [200] * 150
    assert fast.status == 200
    assert still > 100
    upstream.verify(path="/slow", count=150)


def test_a_truncated_body_ends_where_it_was_cut(upstream: Upstream) -> None:
    upstream.script(truncated("ünïcode body", after_bytes=4), truncated(b"x" * 10))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(upstream.url)
    assert (caught.value.partial, caught.value.expected) == ("ünïcode body".encode()[:4], 10)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(upstream.url)
    assert (caught.value.partial, caught.value.expected) == (b"xxxxx", 5)


def test_a_truncated_body_may_have_no_byte_at_all(upstream: Upstream) -> None:
    upstream.script(truncated(b"body", after_bytes=0, status=503))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(upstream.url)
    assert (caught.value.partial, caught.value.expected) == (b"", 4)


def test_a_dribbled_body_comes_in_parts_over_its_time_also_to_a_client_that_takes_gzip(upstream: Upstream) -> None:
    upstream.script(dribbled(b"abcdefgh" * 10, over=0.4, chunks=4))
    answer = ask(upstream.url, headers={"Accept-Encoding": "gzip"})
    assert (answer.body, answer.headers.get("content-encoding")) == (b"abcdefgh" * 10, None)
    came, _ = read_until(upstream.url, b"\r\n0\r\n\r\n")
    assert came[-1][0] - came[0][0] >= 0.2
    assert len(came) >= 4


def read_until(url: str, end: bytes) -> tuple[list[tuple[float, bytes]], bytes]:
    parts = urlsplit(url)
    came: list[tuple[float, bytes]] = []
    began = time.monotonic()
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while not b"".join(data for _, data in came).endswith(end):
            data = connection.recv(65536)
            assert data, came
            came.append((time.monotonic() - began, data))
    return came, b"".join(data for _, data in came)


def events_of(body: bytes) -> list[str]:
    lines = body.decode().splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def test_a_complete_stream_of_events_ends_as_it_should(upstream: Upstream) -> None:
    upstream.script(sse([{"token": "é"}, "two", "[DONE]"]))
    answer = ask(upstream.url)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert events_of(answer.body) == ['{"token": "é"}', "two", "[DONE]"]


@pytest.mark.parametrize("every", [0.0, 0.05])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stream_breaks_after_exactly_so_many_events(upstream: Upstream, count: int, every: float) -> None:
    upstream.script(sse(["one", "the second", "3", "never"], broken_after=count, every=every))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(upstream.url)
    assert events_of(caught.value.partial) == ["one", "the second", "3"][:count]
    assert caught.value.partial == b":\n" or caught.value.partial.endswith(b"\n\n")


def test_paced_events_come_one_by_one_and_whole(upstream: Upstream) -> None:
    upstream.script(sse(["1", "a longer one", "3"], every=0.15, broken_after=3))
    came, end = read_raw(upstream.url)
    assert end == "closed"
    head, _, first = came[0][1].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    parts = [(came[0][0], first), *came[1:]]
    assert [events_of(data) for _, data in parts if data] == [["1"], ["a longer one"], ["3"]]
    assert parts[-1][0] - parts[0][0] >= 0.2


def test_delays_are_drawn_from_their_distribution(upstream: Upstream) -> None:
    upstream.on("GET", "/u").script(ok(after=uniform(0.02, 0.08)))
    upstream.on("GET", "/l").script(ok(after=lognormal(0.05, 0.2)))
    for path in ("/u", "/l"):
        for _ in range(10):
            ask(upstream.url + path)
    drawn = [one.delay_seconds for one in upstream.attempts(path="/u")]
    assert all(0.02 <= seconds <= 0.08 for seconds in drawn)
    assert len(set(drawn)) > 1
    assert len({one.delay_seconds for one in upstream.attempts(path="/l")}) > 1


def test_a_client_that_gave_up_shows_in_the_timeline(upstream: Upstream) -> None:
    upstream.script(fail(503, after=0.8), ok())
    with pytest.raises(TimeoutError):
        ask(upstream.url, timeout=0.1)
    assert ask(upstream.url).status == 200
    upstream.verify(count=2, gaps=between(0.1, 0.7))
    ((title, text),) = upstream.report()
    assert title == "timeline of attempts"
    assert "[attempt 1 was given up within 0." in text


def test_one_client_that_asks_twice_at_once_is_found_out_where_it_did_harm(upstream: Upstream) -> None:
    """WireMock's race: two requests get one step, or one of them none. What the clients got tells whether it was so."""
    disturbed = 0
    for _ in range(30):
        upstream.script(*[ok(text=str(number)) for number in range(40)])
        problems = len(upstream.problems())
        with ThreadPoolExecutor(8) as pool:
            got = [one.body if one.status == 200 else None for one in pool.map(lambda _: ask(upstream.url), range(32))]
        was_disturbed = None in got or len(set(got)) < len(got)
        assert (len(upstream.problems()) > problems) is was_disturbed
        disturbed += was_disturbed
        if disturbed:
            break
    if disturbed:
        with pytest.raises(AssertionError, match="at once"):
            upstream.verify()
    else:
        upstream.verify(count=30 * 32)


def test_clients_with_a_copy_each_do_not_disturb_each_other(upstream: Upstream) -> None:
    early = upstream.client("early").url
    upstream.script(*[ok(text=str(number)) for number in range(20)])
    late = upstream.client("late").url
    assert upstream.client("late").url == late

    def follow(url: str) -> list[bytes]:
        return [ask(url).body for _ in range(20)]

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(follow, [early, late, upstream.url]))
    assert results == [[str(number).encode() for number in range(20)]] * 3
    upstream.verify(count=60)
    assert len(upstream.verify(client="late", count=20)) == 20
    upstream.verify_all_used()


def test_scopes_in_parallel_threads_see_only_their_own(pratique_wiremock: WireMockEndpoint) -> None:
    from pratique.testkit.services.wiremock import WireMockService

    def one(name: str) -> list[int]:
        scope = WireMockService().namespace(pratique_wiremock, name)
        scope.open()
        try:
            scope.on("GET", "/large").script(ok(body=b"x" * 20_000))
            scope.script(fail(503), fail(429), ok(json=name))
            statuses = [ask(scope.url + "/same").status for _ in range(3)]
            assert json.loads(ask(scope.url + "/same").body) == name
            scope.verify(count=4, path="/same")
            return statuses
        finally:
            scope.close()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, [f"parallel{number}" for number in range(18)])) == [[503, 429, 200]] * 18
    told = json.loads(pratique_wiremock.client().ask("GET", "/__admin/mappings"))
    assert "parallel" not in json.dumps(told)
    assert b"parallel" not in pratique_wiremock.client().ask("GET", "/__admin/files")
    assert b"/parallel" not in pratique_wiremock.client().journal()
    assert b"parallel" not in pratique_wiremock.client().ask("GET", "/__admin/scenarios")


def test_two_hundred_steps_are_followed(upstream: Upstream) -> None:
    upstream.script(*[ok(text=str(number)) for number in range(200)])
    assert [ask(upstream.url).body for _ in range(200)] == [str(number).encode() for number in range(200)]
    upstream.verify(count=200)
    upstream.verify_all_used()


def test_bodies_of_some_megabytes_go_both_ways(upstream: Upstream) -> None:
    large = bytes(range(256)) * 4096 * 4
    upstream.script(ok(body=large), truncated(large, after_bytes=len(large) - 1))
    assert ask(upstream.url, method="POST", body=large).body == large
    with pytest.raises(http.client.IncompleteRead):
        ask(upstream.url)
    assert upstream.verify(count=2)[0].body == large


def test_unicode_and_odd_headers_arrive(upstream: Upstream) -> None:
    upstream.on("PUT", "/größe/a b").script(ok(text="größe", headers={"X-Odd": 'a;b="c" , d', "x-empty": ""}))
    url = upstream.url + quote("/größe/a b")
    answer = ask(url, method="PUT", body="äöü".encode(), headers={"X-Sent": "caf\xe9", "Accept": "*/*"})
    assert (answer.status, answer.body.decode()) == (200, "größe")
    assert (answer.headers["x-odd"], answer.headers["x-empty"]) == ('a;b="c" , d', "")
    (sent,) = upstream.verify(count=1)
    assert (sent.text, sent.headers["accept"]) == ("äöü", "*/*")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none(upstream: Upstream, status: int) -> None:
    upstream.script(ok(status=status))
    assert (ask(upstream.url).status, ask(upstream.url).body) == (status, b"")


def test_a_head_request_gets_the_head(upstream: Upstream) -> None:
    upstream.script(ok(text="12345"))
    answer = ask(upstream.url, method="HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")


def test_steps_that_answered_nothing_are_told(upstream: Upstream) -> None:
    upstream.script(fail(503), ok(), then=exhausted())
    ask(upstream.url)
    assert upstream.unused() == ["step 2 (200) of ANY (any path), client 'main'"]
    with pytest.raises(AssertionError, match=r"step 2 \(200\)"):
        upstream.verify_all_used()


def test_a_clients_steps_are_counted_for_itself(upstream: Upstream) -> None:
    upstream.script(fail(503), ok())
    ask(upstream.client("a").url)
    ask(upstream.client("a").url)
    ask(upstream.client("b").url)
    assert upstream.unused() == ["step 2 (200) of ANY (any path), client 'b'"]
    assert len(upstream.gaps()) == 2
    assert upstream.gaps(client="b") == []


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a" * 32])
def test_a_clients_name_that_is_no_path_is_refused(upstream: Upstream, name: str) -> None:
    with pytest.raises(TestkitUsageError, match="name"):
        upstream.client(name)


def test_too_many_too_few_too_fast_are_told_with_the_timeline(upstream: Upstream) -> None:
    upstream.script(fail(503), ok())
    ask(upstream.url)
    ask(upstream.url)
    for count in (1, at_least(3), at_most(1)):
        with pytest.raises(AssertionError, match=r"attempts, got 2\ntimeline of attempts:\n +0\.000 s"):
            upstream.verify(count=count)
    with pytest.raises(AssertionError, match=r"expected gaps of at least 1 s, got 0\.?\d* s before attempt 2"):
        upstream.verify(gaps=at_least(1))


@pytest.mark.slow
def test_a_journal_that_overflowed_is_an_error_not_a_wrong_count(pratique_launch: Launcher) -> None:
    server = pratique_launch("wiremock")
    from pratique.testkit.services.wiremock import WireMockService

    scope = WireMockService().namespace(server.endpoint, "overflow")
    scope.open()
    scope.script(ok())
    parts = urlsplit(scope.url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    for _ in range(3990):
        connection.request("GET", parts.path)
        connection.getresponse().read()
    scope.verify(count=3990)
    for _ in range(20):
        connection.request("GET", parts.path)
        connection.getresponse().read()
    connection.close()
    with pytest.raises(ServiceGoneError, match="lost requests"):
        scope.verify(count=4010)
    assert scope.report()[0][1].startswith("lost: ")


def test_a_server_that_was_killed_is_a_clear_error_and_one_that_came_back_has_forgotten(
    pratique_launch: Launcher,
) -> None:
    from pratique.testkit.services.wiremock import WireMockService

    server = pratique_launch("wiremock")
    scope = WireMockService().namespace(server.endpoint, "killed")
    scope.open()
    scope.script(ok())
    server.kill()
    with pytest.raises(ServiceGoneError, match="does not answer"):
        scope.verify()
    assert scope.report()[0][1].startswith("lost: ")
    server.restart()
    with pytest.raises(ServiceGoneError, match="lost requests"):
        scope.verify()


def test_a_stub_of_the_tests_own_stands_beside_the_scripts(upstream: Upstream) -> None:
    own = {"request": {"urlPath": f"/{upstream.name}/main/own"}, "response": {"status": 418}}
    made = json.loads(upstream.endpoint.client().ask("POST", "/__admin/mappings", own))  # type: ignore[attr-defined]
    assert ask(upstream.url + "/own").status == 418
    assert "418 by a stub of the test's own" in upstream.report()[0][1]
    upstream.verify(count=1)
    upstream.endpoint.client().ask("DELETE", f"/__admin/mappings/{made['id']}")  # type: ignore[attr-defined]


def test_a_thread_that_asks_after_the_scope_is_closed_gets_404(pratique_wiremock: WireMockEndpoint) -> None:
    from pratique.testkit.services.wiremock import WireMockService

    scope = WireMockService().namespace(pratique_wiremock, "closed")
    scope.open()
    scope.script(ok())
    asked: list[int] = []
    scope.close()
    thread = threading.Thread(target=lambda: asked.append(ask(scope.url).status))
    thread.start()
    thread.join(10)
    assert asked == [404]
    with pytest.raises(ServiceGoneError, match="lost"):
        scope.attempts()
    scope.close()
