"""What the edge's access log says of two pools: one sample of each metric for each request. Pure, but for reading."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from pratique.fleet.targets.interface import CLIENT_ERROR, ERROR, FIRST_TOKEN_SECONDS, LATENCY_SECONDS

__all__ = ["MAX_BYTES", "Samples", "read_tail", "samples_of"]

MAX_BYTES: Final = 64 * 1024 * 1024
"""Of the log's end; some 150,000 requests."""
_SWITCHED: Final = 101
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500

Samples = dict[str, list[float]]


class _Line(msgspec.Struct, frozen=True):
    event: str
    timestamp: datetime
    status: int
    pool: str | None = None
    milliseconds: int | str | None = None
    milliseconds_to_first_byte: int | str | None = None


def read_tail(file: Path) -> list[bytes]:
    """Return the log's last lines, whole ones only; none where there is no log."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(0, size - MAX_BYTES))
            lines = opened.read().split(b"\n")
    except FileNotFoundError:
        return []
    return lines[1 if size > MAX_BYTES else 0 : -1]


def samples_of(lines: Iterable[bytes], pool: str, *, since: datetime) -> Samples:
    """Return the metrics of the requests that a pool was chosen for and that began since then.

    `ERROR`: 1 for each that was answered with a 5xx or not at all; `CLIENT_ERROR`: with a 4xx. `LATENCY_SECONDS` and
    `FIRST_TOKEN_SECONDS` of the others, since a refusal is quick: to the last and to the first byte of the answer.
    WebSockets, which last as long as somebody is there, count as requests only. A request that is still running has not
    been measured.
    """
    found: Samples = {ERROR: [], CLIENT_ERROR: [], LATENCY_SECONDS: [], FIRST_TOKEN_SECONDS: []}
    for text in lines:
        try:
            line = msgspec.json.decode(text, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # another kind of line, or one that was cut
        if line.pool != pool or line.timestamp < since:
            continue
        is_error = line.status == 0 or line.status >= _SERVER_ERROR
        is_refused = _CLIENT_ERROR <= line.status < _SERVER_ERROR
        found[ERROR].append(float(is_error))
        found[CLIENT_ERROR].append(float(is_refused))
        if is_error or is_refused or line.status == _SWITCHED:
            continue
        for metric, value in (
            (LATENCY_SECONDS, line.milliseconds),
            (FIRST_TOKEN_SECONDS, line.milliseconds_to_first_byte),
        ):
            if isinstance(value, int):
                found[metric].append(value / 1000)
    return found
