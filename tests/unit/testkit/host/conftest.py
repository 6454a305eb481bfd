"""A container engine in this process: what of the Docker API the host asks for by itself, on a Unix socket."""

from __future__ import annotations

import json
import socketserver
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class FakeEngine:
    """Has containers by name; `ping_status` and `delete_status` are what it answers."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.ping_status = 200
        self.delete_status = 204
        self.containers: dict[str, str] = {}
        self.list_body: bytes | None = None
        self.removed: list[str] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def address_string(self) -> str:
                return "unix"

            def do_GET(self) -> None:
                listed = [
                    {"Id": name, "Labels": {"pratique.testkit.owner": who}} for name, who in engine.containers.items()
                ]
                body = json.dumps(listed).encode() if engine.list_body is None else engine.list_body
                self._say(engine.ping_status, b"OK" if self.path == "/_ping" else body)

            def do_DELETE(self) -> None:
                name = self.path.partition("?")[0].rpartition("/")[2]
                engine.removed.append(name)
                engine.containers.pop(name, None)
                self._say(engine.delete_status, b"")

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Say nothing."""

        self._server = _Server(str(path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine that DOCKER_HOST names."""
    with tempfile.TemporaryDirectory(prefix="pq-") as folder:  # a socket's path is short
        engine = FakeEngine(Path(folder) / "engine.sock")
        monkeypatch.setenv("DOCKER_HOST", engine.address)
        yield engine
        engine.close()
