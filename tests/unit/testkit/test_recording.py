"""Recordings: read, replayed, asked again, compared."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.recording import (
    Answer,
    Exchange,
    Recording,
    ReplayServer,
    ask_again,
    drift,
    load_recording,
)
from pratique.testkit.services.http import ask

pytestmark = pytest.mark.unit


def _exchange(body: Any, *significant: str, method: str = "GET", path: str = "/a", status: int = 200) -> Exchange:
    return Exchange(method=method, path=path, answer=Answer(status=status, body=body), significant=significant)


def _recording(*exchanges: Exchange) -> Recording:
    return Recording(about="a", server="S", version="1", origin="transcribed", sources=("x",), exchanges=exchanges)


def _ask(server: ReplayServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=5)
    connection.request(method, path, body=None if body is None else json.dumps(body))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text else None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"about": 1}', "\x00"])
def test_file_that_is_no_recording_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(TestkitUsageError, match=r"r\.json is no recording"):
        load_recording(tmp_path / "r.json")
    with pytest.raises(TestkitUsageError, match=r"none\.json is no recording"):
        load_recording(tmp_path / "none.json")


def test_recording_with_a_field_nobody_knows_is_refused(tmp_path: Path) -> None:
    told = {**msgspec.to_builtins(_recording()), "verzion": "2"}
    (tmp_path / "r.json").write_text(json.dumps(told))
    with pytest.raises(TestkitUsageError, match="verzion"):
        load_recording(tmp_path / "r.json")


def test_recording_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    recording = _recording(_exchange({"b": [1, None]}, "b.0"))
    (tmp_path / "r.json").write_bytes(msgspec.json.encode(recording))
    assert load_recording(tmp_path / "r.json") == recording


def test_same_request_gets_its_answers_in_order_and_then_none() -> None:
    with ReplayServer(_recording(_exchange(1), _exchange(2))) as server:
        assert [_ask(server, "GET", "/a") for _ in range(2)] == [(200, 1), (200, 2)]
        assert server.unused == []
        assert _ask(server, "GET", "/a")[0] == 501
        assert server.unexpected == ["GET /a"]


def test_order_of_the_query_and_of_a_bodys_keys_does_not_matter() -> None:
    exchange = Exchange(method="PUT", path="/a?x=1&y", body={"p": 1, "q": 2}, answer=Answer(status=201, body={}))
    with ReplayServer(_recording(exchange)) as server:
        assert _ask(server, "PUT", "/a?y=&x=1", {"q": 2, "p": 1}) == (201, {})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/a", None), ("GET", "/b", None), ("GET", "/a?x=1", None), ("GET", "/a", {"q": 1})],
)
def test_another_request_than_the_recorded_is_not_answered(method: str, path: str, body: Any) -> None:
    with ReplayServer(_recording(_exchange({}))) as server:
        assert _ask(server, method, path, body)[0] == 501
        assert server.unused == ["GET /a"]


def test_answer_to_head_and_answer_without_a_body_are_empty() -> None:
    with ReplayServer(_recording(_exchange({"a": 1}, method="HEAD"), _exchange(None, status=204))) as server:
        assert _ask(server, "HEAD", "/a") == (200, None)
        assert _ask(server, "GET", "/a") == (204, None)


def test_asking_again_records_what_the_server_says_now() -> None:
    with ReplayServer(_recording(_exchange({"a": 2}, status=201))) as server:
        now = ask_again(_recording(_exchange({"a": 1}, "a")), server.url, version="9", how="test")
    assert (now.version, now.origin, now.sources) == ("9", "captured", ("test",))
    answer = now.exchanges[0].answer
    assert (answer.status, answer.body, answer.headers) == (201, {"a": 2}, {"content-type": "application/json"})
    assert now.exchanges[0].significant == ("a",)


@pytest.mark.parametrize(
    "text", ['{"index": {}}\n{"a": 1}\n', "plain", '"quoted"'], ids=["lines", "plain", "a JSON text"]
)
def test_a_body_that_is_a_text_is_recorded_asked_and_answered_as_it_is(text: str) -> None:
    exchange = Exchange(method="POST", path="/_bulk", body=text, answer=Answer(status=200, body=text))
    with ReplayServer(_recording(exchange)) as server:
        again = ask_again(_recording(exchange), server.url, version="1", how="its replay")
        assert (server.unexpected, server.unused) == ([], [])
    assert again.exchanges[0].answer.body == text


@pytest.mark.parametrize("body", [b'{"a": 1}\n{"b": 2}\n', b"\xff\x00", b"{"], ids=["lines", "no text", "cut"])
def test_a_body_that_is_no_json_and_was_not_recorded_is_kept_as_unexpected(body: bytes) -> None:
    with ReplayServer(_recording(_exchange({}))) as server:
        answer = ask("POST", f"{server.url}/_bulk", body=body)
        assert (answer.status, server.unexpected) == (501, [f"POST /_bulk {body.decode('utf-8', 'replace')}".strip()])


def test_asking_nobody_is_an_error() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(OSError, match="refused"):
            ask_again(_recording(_exchange({})), url, version="", how="")


def test_asking_something_that_is_no_http_server_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail\r\n")
                connection.recv(4096)

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(OSError, match="the answer is not HTTP"):
            ask_again(_recording(_exchange({})), f"http://127.0.0.1:{listener.getsockname()[1]}", version="", how="")
        thread.join()


def _drift(old: Any, new: Any, *significant: str, statuses: tuple[int, int] = (200, 200)) -> list[str]:
    before = _recording(_exchange(old, *significant, status=statuses[0]))
    return drift(before, _recording(_exchange(new, status=statuses[1])))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"took": 3}, {"took": 900}),
        ({"score": 1}, {"score": 1.5}),
        ({"a": 1}, {"a": 1, "new": True}),
        ([{"a": 1}], [{"a": 2}, {"a": 3}]),
        ([], [{"a": 1}]),
        (None, None),
    ],
)
def test_values_that_vary_and_what_is_added_are_no_drift(old: Any, new: Any) -> None:
    assert _drift(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"a": {"b": 1}}, {"a": {}}, "GET /a: a.b: is missing"),
        ({"a": 1}, {"a": "1"}, "GET /a: a: expected number, got str"),
        ({"a": True}, {"a": 1}, "GET /a: a: expected bool, got number"),
        ({"a": None}, {"a": {}}, "GET /a: a: expected NoneType, got dict"),
        ([{"a": 1}], [{}], "GET /a: 0.a: is missing"),
        ([{"a": 1}], [], "GET /a: the body: expected an element, got none"),
        ({}, [], "GET /a: the body: expected dict, got list"),
    ],
)
def test_shape_that_changed_is_drift(old: Any, new: Any, said: str) -> None:
    assert _drift(old, new) == [said]


def test_significant_value_that_changed_is_drift() -> None:
    old, new = {"error": {"root": [{"type": "x"}]}}, {"error": {"root": [{"type": "y"}]}}
    assert _drift(old, new, "error.root.0.type") == ["GET /a: error.root.0.type: expected 'x', got 'y'"]


@pytest.mark.parametrize("path", ["a.b", "a.0.b", "c", "l.7", "l.x"])
def test_significant_path_that_leads_nowhere_in_both_is_no_drift(path: str) -> None:
    assert _drift({"a": 1, "l": [1]}, {"a": 1, "l": [1]}, path) == []


def test_another_status_is_drift_whatever_the_body() -> None:
    assert _drift({"a": 1}, {"a": 1}, statuses=(400, 200)) == ["GET /a: expected status 400, got 200: {'a': 1}"]
