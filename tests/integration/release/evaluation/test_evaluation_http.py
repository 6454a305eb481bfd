"""What comes over a real socket: errors, silence, floods, and answers that never end."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pratique.core.errors import CallerError
from pratique.release.evaluation.client import HttpServer, base_url
from pratique.release.evaluation.errors import IncompleteEvaluationError
from pratique.release.evaluation.settings import EvaluationSettings
from pratique.release.evaluation.wire import Ask

pytestmark = pytest.mark.integration

QUICK = EvaluationSettings(case_seconds=0.5, total_seconds=20, max_response_bytes=1024)
ASK = Ask("/v1/completions", b"{}")


@contextlib.contextmanager
def serving(answer: bytes, *, drip: bytes = b"", seen: list[bytes] | None = None) -> Iterator[str]:
    """A server that says this to the first who asks, then drips until nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                request = connection.recv(65536)
                if seen is not None:
                    seen.append(request)
                connection.sendall(answer)
                while drip:
                    time.sleep(0.05)
                    connection.sendall(drip)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def response(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "drip", "said"),
    [
        (response(b"warming up\x1b[31m", status="503 Unavailable"), b"", r"answered 503: warming up\\u\{1b\}\[31m"),
        (response(b"", status="302 Found\r\nLocation: http://127.0.0.1:1/"), b"", "answered 302"),
        (response(b"x" * 2000), b"", "more than 1024 bytes"),
        (response(b"{", length=100), b"", "does not answer"),
        (response(b"", length=900), b"x", "not whole in time"),
        (b"", b"", "does not answer"),
        (b"SMTP\r\n\r\n", b"", "does not answer"),
    ],
)
def test_an_answer_that_is_not_whole_leaves_it_undecided(answer: bytes, drip: bytes, said: str) -> None:
    with serving(answer, drip=drip) as url, pytest.raises(IncompleteEvaluationError, match=said):
        HttpServer.open(url, QUICK).post(ASK)


def test_silence_ends_with_the_time_of_the_case() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HttpServer.open(f"http://127.0.0.1:{listener.getsockname()[1]}", QUICK)
        began = time.monotonic()
        with pytest.raises(IncompleteEvaluationError, match="does not answer"):
            server.post(ASK)
        assert time.monotonic() - began < 10
    with pytest.raises(IncompleteEvaluationError, match="does not answer"):
        server.get("/v1/models")  # nobody listens any more


def test_nothing_is_asked_when_the_time_for_all_is_over() -> None:
    late = EvaluationSettings(total_seconds=0.001)
    server = HttpServer.open("http://127.0.0.1:1", late)
    time.sleep(0.01)
    with pytest.raises(IncompleteEvaluationError, match=r"0.001 s for all cases are over"):
        server.post(ASK)


def test_a_request_goes_out_whole_and_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    settings = EvaluationSettings(api_key_file=tmp_path / "key")
    seen: list[bytes] = []
    with serving(response(b"{}"), seen=seen) as url:
        assert HttpServer.open(url + "/v1/", settings).post(ASK) == b"{}"
    assert seen[0].startswith(b"POST /v1/completions HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret\r\n" in seen[0]
    assert b"x-pratique-budget: off\r\n" in seen[0]


def test_a_key_is_not_sent_in_the_open_or_made_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    settings = EvaluationSettings(api_key_file=tmp_path / "key")
    with pytest.raises(CallerError, match="in plain text"):
        HttpServer.open("http://models.example", settings)
    assert HttpServer.open("https://models.example", settings).headers["Authorization"] == "Bearer secret"
    for content, said in ((b"", "holds no key"), (b"a\nb", "holds no key"), (b"\xff", "cannot be read")):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(CallerError, match=said):
            HttpServer.open("http://localhost:1", settings)
    with pytest.raises(CallerError, match="cannot be read"):
        HttpServer.open("http://localhost:1", EvaluationSettings(api_key_file=tmp_path / "none"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8081",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x?a",
        "http://x#a",
        "http://x:99999",
        "http://[",
    ],
)
def test_an_address_that_is_none_is_wrong_usage(url: str) -> None:
    with pytest.raises(CallerError, match="expected the address of a server"):
        base_url(url)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://x", "http://x"),
        ("https://x:1/v1", "https://x:1"),
        ("http://x/a/v1/", "http://x/a"),
        ("http://[::1]:8/", "http://[::1]:8"),
    ],
)
def test_the_path_of_the_api_may_be_given(url: str, base: str) -> None:
    assert base_url(url) == base
