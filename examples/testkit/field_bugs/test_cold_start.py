"""Field bug: the first request after a start took three seconds; the mock always answered in fifty milliseconds.

The naive code asks once and allows a second, which is twenty times what the mock takes. A model server that was just
started has to load and to warm up first, which takes three seconds here (provider `simulated-cold`): until then it says
503 with `Retry-After`. The fix waits as it is told, within a deadline of its own.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.testkit import Launcher

pytestmark = pytest.mark.integration

MOCK_SECONDS = 0.05
ATTEMPT_SECONDS = 1.0
DEADLINE_SECONDS = 30.0


# The code under test.


def ask_naively(url: str) -> str:
    return _post(url, ATTEMPT_SECONDS)


def ask(url: str) -> str:
    """Ask until there is an answer or the deadline has passed; wait between attempts as the server says."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return _post(url, min(10.0, deadline - time.monotonic()))
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:
                    raise
                wait = min(float(error.headers.get("Retry-After") or 0.2), 0.5)
        except (urllib.error.URLError, ConnectionError):
            wait = 0.2
        if time.monotonic() + wait >= deadline:
            raise TimeoutError(f"no answer within {DEADLINE_SECONDS} s")
        time.sleep(wait)


def _post(url: str, seconds: float) -> str:
    body = json.dumps({"query": "hello", "max_tokens": 4}).encode()
    request = urllib.request.Request(f"{url}/invocations", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        text: str = json.loads(answer.read())["text"]
        return text


# The tests.


class MockModel(BaseHTTPRequestHandler):
    """What such mocks look like: always there, always quick."""

    def do_POST(self) -> None:
        time.sleep(MOCK_SECONDS)
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"text": "You said: hello"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


@pytest.fixture
def mock_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), MockModel)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def check(url: str, ask: Callable[[str], str]) -> None:
    """The one test that somebody wrote."""
    assert ask(url).startswith("You said: hello")


def test_the_naive_code_passes_on_a_mock(mock_url: str) -> None:
    check(mock_url, ask_naively)


def test_the_naive_code_fails_on_a_server_that_was_just_started(pratique_launch: Launcher) -> None:
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        check(pratique_launch("model_server", use="simulated-cold").url, ask_naively)
    assert refused.value.headers["Retry-After"]
    refused.value.close()


def test_the_fix_passes_on_a_mock(mock_url: str) -> None:
    check(mock_url, ask)


def test_the_fix_passes_on_a_server_that_was_just_started(pratique_launch: Launcher) -> None:
    check(pratique_launch("model_server", use="simulated-cold").url, ask)
