"""Server-sent events, read from bytes in pieces of any size. Only `data` counts: type and cursor stand in it too."""

from __future__ import annotations

import codecs

__all__ = ["SseParser"]


class SseParser:
    """Bytes in, the `data` of complete events out. Bounded: an event larger than the limit is an error."""

    def __init__(self, *, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._rest = ""
        self._data: list[str] = []
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of every event that `chunk` completes.

        Raises:
            ValueError: the event is too large, or the bytes are not UTF-8.
        """
        text = self._decoder.decode(chunk)
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        if text.endswith("\r"):
            self._after_cr = True
        lines = (self._rest + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = lines.pop()
        if len(self._rest) + self._size > self._max:
            raise ValueError(f"expected events of at most {self._max} bytes; this one is larger")
        return [data for line in lines if (data := self._take_line(line)) is not None]

    def _take_line(self, line: str) -> str | None:
        if not line:
            complete, self._data, self._size = self._data, [], 0
            return "\n".join(complete) or None
        field, _, value = line.partition(":")
        if field == "data":
            self._data.append(value.removeprefix(" "))
            self._size += len(value)
            if self._size > self._max:
                raise ValueError(f"expected events of at most {self._max} bytes; this one is larger")
        return None
