"""Server-sent events, read from bytes as they come. Pure, and bounded: a line or an event cannot grow without end."""

from __future__ import annotations

from typing import NamedTuple

from pratique.orchestrator.upstream.interface import UpstreamGarbledError

__all__ = ["MAX_EVENT_BYTES", "SseMessage", "SseParser"]

MAX_EVENT_BYTES = 1024 * 1024


class SseMessage(NamedTuple):
    """One event with its data."""

    event: str
    data: bytes


class SseParser:
    """Feed it chunks, get the messages that are complete. Comments are passed over; unknown fields too.

    Lines end with LF or CR LF, as both servers of the contract write them; a lone CR does not end one.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._event = "message"
        self._data: list[bytes] = []
        self._num_bytes = 0

    @property
    def is_between_events(self) -> bool:
        """Whether what comes next begins an event."""
        return not self._rest and not self._num_bytes

    def feed(self, chunk: bytes) -> list[SseMessage]:
        """Return the messages that this chunk completes.

        Raises:
            UpstreamGarbledError: an event is larger than the bound.
        """
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        messages = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]  # noqa: PLW2901 - its end is no part of it
            if line:
                self._take(line)
                continue
            if self._data:
                messages.append(SseMessage(self._event, b"\n".join(self._data)))
                self._data = []
            self._event, self._num_bytes = "message", 0
        if self._num_bytes + len(self._rest) > self._max_event_bytes:
            raise UpstreamGarbledError(f"An event of the model server has more than {self._max_event_bytes} bytes.")
        return messages

    def _take(self, line: bytes) -> None:
        self._num_bytes += len(line)
        if self._num_bytes > self._max_event_bytes:
            raise UpstreamGarbledError(f"An event of the model server has more than {self._max_event_bytes} bytes.")
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")
