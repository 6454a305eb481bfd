"""Tells how a domain name is written in ASCII: the service that the 2 a.m. drill ships."""

from __future__ import annotations

import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import idna

__all__ = ["ascii_of", "main"]


def ascii_of(name: str) -> str:
    """Return a domain name as the DNS knows it."""
    return idna.encode(name).decode("ascii")


class Handler(BaseHTTPRequestHandler):
    """GET /readyz, and GET /NAME."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        path = urllib.parse.unquote(self.path.removeprefix("/"))
        if path == "readyz":
            self._answer(200, "ready")
            return
        try:
            self._answer(200, ascii_of(path))
        except idna.IDNAError as error:
            self._answer(400, str(error))
        except Exception as error:  # noqa: BLE001 - a request ends here
            self._answer(500, repr(error))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        """Say nothing."""

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve on loopback, at the port that is given."""
    if "--check" in sys.argv:
        ascii_of("example.org")
        return
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
