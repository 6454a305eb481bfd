"""Recorded exchanges with a server over HTTP: for the adapter of a service that cannot be had on every machine.

A recording is a file: what was asked, in order, and what a server of a stated version answers. `ReplayServer` answers
from it. Where a real server is there, `ask_again` asks it the same and `drift` says what is no longer so; the answers
make the next recording. A recording says whether it was captured or transcribed from documentation.

The paths that drift looks at are of the form `error.root_cause.0.type`. Two answers agree when they have the same
status, everything recorded is there with the same JSON type (lists by their first element), and the significant values
are equal. What a newer server adds is no drift.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.ports import LOOPBACK
from pratique.testkit.services.http import ask

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["Answer", "Exchange", "Recording", "ReplayServer", "ask_again", "drift", "load_recording"]

_UNKNOWN_STATUS: Final = 501
_JSON: Final = "application/json"


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the server says."""

    status: int
    body: Any = None
    headers: dict[str, str] = {}


class Exchange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One request and its answer."""

    method: str
    path: str
    """With its query."""
    body: Any = None
    """A JSON value; a text is sent as it is."""
    answer: Answer
    significant: tuple[str, ...] = ()
    """Paths in the answer's body whose values must not change."""


class Recording(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exchanges in the order in which they were made."""

    about: str
    server: str
    version: str
    origin: Literal["captured", "transcribed"]
    sources: tuple[str, ...]
    """Where the facts are from: addresses, or the command that captured them."""
    exchanges: tuple[Exchange, ...]


def load_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        TestkitUsageError: it is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recording)
    except (OSError, msgspec.MsgspecError) as error:
        raise TestkitUsageError(f"{path} is no recording: {error}.") from error


class ReplayServer:
    """Answers from a recording, on the loopback address, as long as the block lasts.

    The same request asked again gets the next recorded answer to it. One that was not recorded is answered with 501,
    and kept in `unexpected`.
    """

    def __init__(self, recording: Recording) -> None:
        self._left = list(recording.exchanges)
        self._lock = threading.Lock()
        self.unexpected: list[str] = []
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}"

    @property
    def unused(self) -> list[str]:
        """What was recorded and not asked for."""
        return [f"{one.method} {one.path}" for one in self._left]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        asked = _identity(method, path, _read_body(body))
        with self._lock:
            for exchange in self._left:
                if _identity(exchange.method, exchange.path, exchange.body) == asked:
                    self._left.remove(exchange)
                    return exchange.answer
            self.unexpected.append(f"{method} {path} {body.decode('utf-8', 'replace')}".strip())
        return Answer(status=_UNKNOWN_STATUS, body={"error": f"not recorded: {method} {path}", "status": 501})


def ask_again(recording: Recording, url: str, *, version: str, how: str) -> Recording:
    """Ask a real server everything in the recording, in order; return what it answers as a recording of its own.

    Args:
        recording: what to ask.
        url: where; only the recording's own names are touched there.
        version: of that server.
        how: what captured it, for the file.

    Raises:
        OSError: it does not answer.
    """
    exchanges = tuple(msgspec.structs.replace(one, answer=_ask(one, url)) for one in recording.exchanges)
    return msgspec.structs.replace(recording, version=version, origin="captured", sources=(how,), exchanges=exchanges)


def drift(recorded: Recording, now: Recording) -> list[str]:
    """Return what a server no longer answers as it was recorded."""
    found: list[str] = []
    for old, new in zip(recorded.exchanges, now.exchanges, strict=True):
        where = f"{old.method} {old.path}"
        if old.answer.status != new.answer.status:
            found.append(f"{where}: expected status {old.answer.status}, got {new.answer.status}: {new.answer.body}")
            continue
        found += [f"{where}: {what}" for what in _shape_drift(old.answer.body, new.answer.body, "")]
        for path in old.significant:
            expected, got = _value_at(old.answer.body, path), _value_at(new.answer.body, path)
            if expected != got:
                found.append(f"{where}: {path}: expected {expected!r}, got {got!r}")
    return found


def _shape_drift(old: Any, new: Any, path: str) -> list[str]:  # noqa: ANN401 - any JSON value
    here = path or "the body"
    if _kind(old) != _kind(new):
        return [f"{here}: expected {_kind(old)}, got {_kind(new)}"]
    if isinstance(old, dict):
        missing = [f"{_join(path, name)}: is missing" for name in old if name not in new]
        deeper = [_shape_drift(old[name], new[name], _join(path, name)) for name in old if name in new]
        return missing + [one for several in deeper for one in several]
    if isinstance(old, list) and old:
        return _shape_drift(old[0], new[0], _join(path, "0")) if new else [f"{here}: expected an element, got none"]
    return []


def _kind(value: Any) -> str:  # noqa: ANN401 - as above
    return "number" if type(value) in (int, float) else type(value).__name__


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _value_at(body: Any, path: str) -> Any:  # noqa: ANN401 - as above
    for step in path.split("."):
        try:
            body = body[int(step)] if isinstance(body, list) else body[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return body


def _identity(method: str, path: str, body: Any) -> tuple[str, str, str, str]:  # noqa: ANN401 - as above
    parts = urlsplit(path)
    query = urlencode(sorted(parse_qsl(parts.query, keep_blank_values=True)))
    return method, parts.path, query, "" if body is None else json.dumps(body, sort_keys=True)


def _ask(exchange: Exchange, url: str) -> Answer:
    body = _write_body(exchange.body) or None
    answer = ask(exchange.method, url.rstrip("/") + exchange.path, body=body, headers={"Content-Type": _JSON})
    return Answer(
        status=answer.status,
        body=_read_body(answer.body),
        headers={"content-type": answer.headers.get("content-type", "")},
    )


def _read_body(body: bytes) -> Any:  # noqa: ANN401 - as above
    """Return a JSON value; as text, as it came, what is none (lines of JSON, for one), or is only a text."""
    try:
        value = json.loads(body) if body else None
    except ValueError:
        value = ""
    return body.decode("utf-8", "replace") if isinstance(value, str) else value


def _write_body(body: Any) -> bytes:  # noqa: ANN401 - as above
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _handler_of(replay: ReplayServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = replay.answer(self.command, self.path, asked)
            body = b"" if self.command == "HEAD" else _write_body(answer.body)
            self.send_response(answer.status)
            for name, value in {"content-type": _JSON, **answer.headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            """Say nothing."""

    return Handler
