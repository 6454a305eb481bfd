"""How an application's answer ended, for the breaker. Stands between an ASGI application and its server.

Nothing is held back: what passes is looked at. An error in a stream is an event of its own, `data: {"error": …}`, as
vLLM and OpenAI send it; a model's words cannot look like one, because in JSON their quotes are escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.types import Message, Receive, Send

from pratique.inference.api.target import Outcome

__all__ = ["ResponseWatch"]

_ERROR_EVENT: Final = b'data: {"error"'
_SERVER_ERROR: Final = 501
"""A plain 500 is the application's own trouble with one request (a grammar that does not compile, say): the engine
goes on, and whoever sent it must not keep the breaker open. What an engine's end did is a 503 (`lost_engine`)."""
_GOOD: Final = range(200, 300)


class ResponseWatch:
    """One answer. `receive` and `send` go to the application in place of the server's."""

    def __init__(self, receive: Receive, send: Send, *, body: bytes, headers: Mapping[str, str]) -> None:
        """Give `body` to the application, and `headers` to the client beside the answer's own."""
        self._receive = receive
        self._send = send
        self._body: bytes | None = body
        self._headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        self._status = 0
        self._is_complete = False
        self._has_error = False
        self._has_left = False
        self._last = b""

    def outcome(self) -> Outcome:
        """Return how it ended. An application that ended without its answer, or raised, failed."""
        if self._has_error:
            return Outcome.FAILED
        # Asked first: an application that was told so may still answer something that nobody gets.
        if self._has_left:
            return Outcome.ABANDONED
        if not self._is_complete or self._status >= _SERVER_ERROR:
            return Outcome.FAILED
        return Outcome.SUCCEEDED if self._status in _GOOD else Outcome.ABANDONED

    def leave(self) -> None:
        """Say that nobody waits for the rest."""
        self._has_left = self._has_left or not self._is_complete

    async def receive(self) -> Message:
        """Give the body, then what the server says."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.leave()
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
        else:
            self._look(message.get("body", b""))
        try:
            await self._send(message)
        except OSError:
            self.leave()
            raise
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_complete = True

    def _look(self, chunk: bytes) -> None:
        # The event may be cut anywhere between two chunks.
        seen = self._last + chunk
        self._has_error = self._has_error or _ERROR_EVENT in seen
        self._last = seen[-len(_ERROR_EVENT) + 1 :]
