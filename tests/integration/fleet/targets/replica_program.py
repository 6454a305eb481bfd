"""A small service: `replica_program.py DIGEST PORT FOLDER`. How it is, files in the folder say, by the digest.

The files' names begin with four digits of the digest: `1111.slow` has the seconds that each answer takes; with
`1111.bad` every answer is a 500; with `1111.ill` its health check says no.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DIGEST, PORT, FOLDER = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


def has(what: str) -> Path | None:
    file = FOLDER / f"{DIGEST.removeprefix('sha256:')[:4]}.{what}"
    return file if file.exists() else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/readyz":
            self.answer(503 if has("ill") else 200, b"")
            return
        if slow := has("slow"):
            time.sleep(float(slow.read_text()))
        self.answer(500 if has("bad") else 200, DIGEST.encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("127.0.0.1", PORT), Handler).serve_forever()
