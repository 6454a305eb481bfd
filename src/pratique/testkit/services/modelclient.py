"""A small client of a model server's own API: `/invocations` whole and streamed, `/status`, `/metrics`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from pratique.testkit.errors import ServiceGoneError, UnexpectedAnswerError
from pratique.testkit.services.choice import without_password
from pratique.testkit.services.http import Answered, answering, ask, exchange, read_all

if TYPE_CHECKING:
    import http.client
    from types import TracebackType

__all__ = ["Event", "ModelClient", "Reply", "Stream", "Usage", "read_events"]

_TITLE: Final = "The model server"
_SECONDS: Final = 300.0
_LAST: Final = frozenset({"end", "error"})
_JSON: Final = {"Content-Type": "application/json"}
_RUNNING: Final = re.compile(rb"^pratique_inference_in_flight(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply."""

    text: str
    finish_reason: str
    usage: Usage = Usage()


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream: `start`, `token`, `end` or `error`."""

    name: str
    data: dict[str, Any]


class ModelClient:
    """One server. Calls raise ServiceGoneError where nobody answers, UnexpectedAnswerError where they are refused."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def invoke(self, body: Mapping[str, Any]) -> Reply:
        """Return a whole reply."""
        sent = msgspec.json.encode({**body, "stream": False})
        answer = self._ask("POST", "/invocations", body=sent, headers=_JSON, seconds=_SECONDS)
        try:
            return msgspec.json.decode(answer.body, type=Reply)
        except msgspec.DecodeError as error:
            raise UnexpectedAnswerError(f"{answer.asked}: expected a reply: {error}.", answer.status) from error

    def stream(self, body: Mapping[str, Any]) -> Stream:
        """Return a reply as it is made."""
        return Stream(self._url, {**body, "stream": True})

    def status(self) -> dict[str, Any]:
        """Return what the server says of itself."""
        said: dict[str, Any] = self._ask("GET", "/status").json()
        return said

    def requests_running(self) -> int:
        """Return how many requests the server works on."""
        found = _RUNNING.search(self._ask("GET", "/metrics").body)
        return int(float(found[1])) if found else 0  # the gauge is there from the first request on

    def _ask(self, method: str, path: str, **options: Any) -> Answered:  # noqa: ANN401 - as `ask` takes them
        with answering(_TITLE, self._url):
            return ask(method, self._url + path, **options).expect(200)


class Stream:
    """A reply as it is made: iterate over its events within `with`. Closing hangs up, which ends the request."""

    def __init__(self, url: str, body: Mapping[str, Any]) -> None:
        self.request_id = str(body.get("request_id", ""))
        self._url = url
        self._stack = contextlib.ExitStack()
        sent, where = msgspec.json.encode(body), f"{url}/invocations"
        with answering(_TITLE, url):
            response = self._stack.enter_context(exchange("POST", where, body=sent, headers=_JSON, seconds=_SECONDS))
        self._events = self._read(response)
        self.is_open = True
        if response.status != 200:  # noqa: PLR2004 - HTTP's
            try:
                with answering(_TITLE, url):
                    read_all("POST", where, response).expect(200)
            finally:
                self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. It does no harm to do so twice."""
        self.is_open = False
        self._stack.close()

    def _read(self, response: http.client.HTTPResponse) -> Iterator[Event]:
        name = ""
        for event in read_events(self._lines(response)):
            name = event.name
            yield event
        self.close()
        if name not in _LAST:
            raise self._broken(f"after '{name}'")

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        from http.client import HTTPException

        try:
            yield from response
        except (OSError, HTTPException) as error:
            self.close()
            raise self._broken(repr(error)) from error

    def _broken(self, how: str) -> ServiceGoneError:
        what = f"the stream of {self.request_id or 'a request'}"
        return ServiceGoneError(f"{_TITLE} at {without_password(self._url)} broke off {what}: {how}.")


def read_events(lines: Iterator[bytes]) -> Iterator[Event]:
    """Yield server-sent events from lines, as they come; lines of other fields are passed over."""
    name, data = "", b""
    for raw in lines:
        line = raw.rstrip(b"\r\n")
        if line.startswith(b"event:"):
            name = line.removeprefix(b"event:").strip().decode("utf-8", "replace")
        elif line.startswith(b"data:"):
            data += line.removeprefix(b"data:").strip()
        elif not line and data:
            yield Event(name=name, data=_read_data(data))
            name, data = "", b""


def _read_data(data: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UnexpectedAnswerError(f"Expected an event's data as a JSON object, got: {data[:300]!r}.") from error
