"""What an upstream does with one request: the verbs of a script. Pure values; nothing here knows of WireMock.

`ok`, `fail`, `truncated`, `dribbled` and `sse` answer; `reset`, `empty` and `garbage` break the connection; `hang` does
not answer for so long that it makes no difference. `after` is seconds, or a distribution, before the first byte.
A step that cannot be done is refused here, where it is written.
"""

from __future__ import annotations

import enum
import json as json_
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.timing import is_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Delay",
    "Event",
    "Fault",
    "Fixed",
    "Lognormal",
    "Step",
    "Uniform",
    "dribbled",
    "empty",
    "exhausted",
    "fail",
    "garbage",
    "hang",
    "lognormal",
    "ok",
    "reset",
    "sse",
    "truncated",
    "uniform",
]

_MAX_SECONDS: Final = 300.0
"""Of any delay: nothing may outlive a run by much."""
_HANG_SECONDS: Final = 60.0
_MISSING_BYTES: Final = 1024
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "content-encoding"})
_BODILESS: Final = frozenset({204, 304})


class Fault(enum.Enum):
    """How a connection breaks instead of an answer."""

    RESET = "reset"
    EMPTY = "empty"
    GARBAGE = "garbage"


@dataclass(frozen=True)
class Fixed:
    """Always the same time."""

    seconds: float


@dataclass(frozen=True)
class Uniform:
    """Any time between two, all equally likely."""

    low_seconds: float
    high_seconds: float


@dataclass(frozen=True)
class Lognormal:
    """Mostly near the median, with a long tail: how servers answer in the field."""

    median_seconds: float
    sigma: float


Delay = Fixed | Uniform | Lognormal


@dataclass(frozen=True, kw_only=True)
class Step:
    """One answer, as scripted. Made by the verbs."""

    label: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    after: Delay = Fixed(0.0)
    fault: Fault | None = None
    chunks: int = 0
    """In how many equal parts the body comes; 0: at once."""
    over_seconds: float = 0.0
    """How long all parts take."""
    missing_bytes: int = 0
    """How much less than its Content-Length the body has; then the connection is cut."""
    is_stream: bool = False
    """It is sent in chunks, without a length, unless it is to be cut."""
    is_exhausted: bool = False
    """It stands for requests that the script did not foresee."""

    @property
    def is_bodiless(self) -> bool:
        return self.status in _BODILESS


@dataclass(frozen=True)
class Event:
    """A server-sent event with a name or an id; where there is only data, a plain str or JSON value will do."""

    data: Any
    name: str = ""
    id: str = ""


def uniform(low: float, high: float) -> Uniform:
    """Return a delay between two, in seconds."""
    _require_delay("uniform", low)
    if _require_delay("uniform", high) < low:
        raise TestkitUsageError(f"uniform({low:g}, {high:g}) ends before it begins.", hint="Expected low <= high.")
    return Uniform(float(low), float(high))


def lognormal(median: float, sigma: float) -> Lognormal:
    """Return a delay with a long tail: median in seconds, sigma of the logarithm (0.1 narrow, 1 wide)."""
    _require_delay("lognormal", median)
    if median == 0 or not is_number(sigma) or not 0 <= sigma <= 2:  # noqa: PLR2004 - beyond it, hours are likely
        raise TestkitUsageError(
            f"lognormal({median!r}, {sigma!r}) is no delay.", hint="Expected a median > 0 and a sigma of 0 to 2."
        )
    return Lognormal(float(median), float(sigma))


def ok(
    *,
    json: Any = None,  # noqa: ANN401 - any JSON value
    text: str | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    status: int = 200,
    after: float | Delay = 0.0,
) -> Step:
    """Answer, with a status below 400."""
    _require_status("ok", status, 200, 399)
    content, kind = _content(json, text, body)
    return _answer(str(status), status, content, kind, _Extras(headers, after))


def fail(
    status: int,
    *,
    after: float | Delay = 0.0,
    json: Any = None,  # noqa: ANN401 - any JSON value
    text: str | None = None,
    headers: Mapping[str, str] | None = None,
    retry_after: float | str | None = None,
) -> Step:
    """Answer with an error: a status of 400 to 599. `retry_after` is seconds, or a date as HTTP writes it."""
    _require_status("fail", status, 400, 599)
    content, kind = _content(json, text, None)
    more = {} if retry_after is None else {"Retry-After": _read_retry_after(retry_after)}
    return _answer(str(status), status, content, kind, _Extras({**(headers or {}), **more}, after))


def truncated(
    body: bytes | str,
    *,
    after_bytes: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    after: float | Delay = 0.0,
) -> Step:
    """Promise a whole body, send its first `after_bytes` (half of it), and cut the connection."""
    whole = body.encode() if isinstance(body, str) else body
    _require_status("truncated", status, 200, 599)
    cut = len(whole) // 2 if after_bytes is None else after_bytes
    if not _is_count(cut) or not 0 <= cut < len(whole) or status in _BODILESS:
        raise TestkitUsageError(
            f"A body of {len(whole)} bytes with status {status} cannot be cut after {cut!r} bytes.",
            hint="Expected fewer bytes than it has, none or more, and a status that has a body.",
        )
    step = _answer(f"{status} cut after {cut} B", status, whole[:cut], "", _Extras(headers, after))
    return replace(step, missing_bytes=len(whole) - cut)


def dribbled(
    body: bytes | str,
    *,
    over: float,
    chunks: int = 10,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    after: float | Delay = 0.0,
) -> Step:
    """Send the body in equal parts, spread over some seconds."""
    whole = body.encode() if isinstance(body, str) else body
    _require_status("dribbled", status, 200, 599)
    _require_delay("over", over)
    if not _is_count(chunks) or not 1 <= chunks <= len(whole) or status in _BODILESS:
        raise TestkitUsageError(
            f"A body of {len(whole)} bytes with status {status} cannot come in {chunks!r} parts.",
            hint="Expected one part or more, at least a byte for each, and a status that has a body.",
        )
    step = _answer(f"{status} dribbled over {over:g} s", status, whole, "", _Extras(headers, after))
    return replace(step, chunks=chunks, over_seconds=float(over), is_stream=True)


def sse(
    events: Sequence[Any],
    *,
    broken_after: int | None = None,
    every: float = 0.0,
    headers: Mapping[str, str] | None = None,
    after: float | Delay = 0.0,
) -> Step:
    """Stream server-sent events: texts, JSON values or `Event`s. `every` is the time before each of them.

    With `broken_after=n` the connection is cut after exactly n events. Where events are paced, comments of SSE make
    them equally long, so that each is a part of its own.
    """
    if isinstance(events, str | bytes):
        raise TestkitUsageError("The events of sse() are one text.", hint="Expected a list of events.")
    count = len(events) if broken_after is None else broken_after
    if not _is_count(count) or not 0 <= count <= len(events):
        raise TestkitUsageError(
            f"A stream of {len(events)} events cannot break after {broken_after!r}.",
            hint=f"Expected 0 to {len(events)}.",
        )
    _require_delay("every", every)
    _require_delay("every, for all events", every * count)
    blocks = [_read_event(event) for event in events[:count]]
    is_paced = bool(every and blocks)
    sent = b"".join(_equally_long(blocks) if is_paced else blocks)
    label = f"SSE of {len(events)}" + ("" if broken_after is None else f", cut after {broken_after}")
    extras = _Extras({"Cache-Control": "no-cache", **(headers or {})}, after)
    step = _answer(label, 200, sent, "text/event-stream", extras)
    if broken_after is not None:
        # A cut needs a Content-Length that is not reached; and some byte, for the head to be sent.
        step = replace(step, body=sent or b":\n", missing_bytes=_MISSING_BYTES)
    return replace(step, chunks=count if is_paced else 0, over_seconds=every * count, is_stream=True)


def reset(*, after: float | Delay = 0.0) -> Step:
    """Reset the connection (TCP RST) instead of an answer."""
    return Step(label="reset", fault=Fault.RESET, after=_read_delay(after))


def empty(*, after: float | Delay = 0.0) -> Step:
    """Close the connection without a byte."""
    return Step(label="closed without a byte", fault=Fault.EMPTY, after=_read_delay(after))


def garbage(*, after: float | Delay = 0.0) -> Step:
    """Send bytes that are no HTTP, and close."""
    return Step(label="garbage", fault=Fault.GARBAGE, after=_read_delay(after))


def hang(*, limit: float = _HANG_SECONDS) -> Step:
    """Do not answer; after `limit` seconds, for nothing hangs for ever, close without a byte."""
    if not _require_delay("hang", limit):
        raise TestkitUsageError("hang(limit=0) does not hang.", hint="Expected seconds, or empty().")
    return Step(label=f"hangs for {limit:g} s", fault=Fault.EMPTY, after=Fixed(float(limit)))


def exhausted() -> Step:
    """Answer 500 "script exhausted", and have verification fail. For `then=`: no request may come after the script."""
    text = json_.dumps({"error": "script exhausted"}).encode()
    step = _answer("500 script exhausted", 500, text, "application/json", _Extras(None, 0.0))
    return replace(step, is_exhausted=True)


@dataclass(frozen=True)
class _Extras:
    headers: Mapping[str, str] | None
    after: float | Delay


def _answer(label: str, status: int, content: bytes, kind: str, extras: _Extras) -> Step:
    if content and status in _BODILESS:
        raise TestkitUsageError(f"An answer {status} has no body.", hint="Leave it out, or take another status.")
    headers = _read_headers(extras.headers)
    if kind and not any(name.lower() == "content-type" for name, _ in headers):
        headers = (("Content-Type", kind), *headers)
    return Step(label=label, status=status, headers=headers, body=content, after=_read_delay(extras.after))


def _content(json: Any, text: str | None, body: bytes | None) -> tuple[bytes, str]:  # noqa: ANN401 - any JSON value
    given = [name for name, value in (("json", json), ("text", text), ("body", body)) if value is not None]
    if len(given) > 1:
        raise TestkitUsageError(f"An answer has one body, not {' and '.join(given)}.", hint="Leave all but one out.")
    if json is not None:
        return _dump(json), "application/json"
    if text is not None:
        return text.encode(), "text/plain; charset=utf-8"
    return body or b"", ""


def _dump(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    try:
        return json_.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise TestkitUsageError(f"{value!r} is no JSON: {error}.") from error


def _read_headers(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    for name, value in (headers or {}).items():
        if not _NAME.fullmatch(name) or not _is_text(value) or not _is_header_value(value):
            raise TestkitUsageError(
                f"The header {name!r}: {value!r} cannot be sent.", hint="Expected a token, and text of one line."
            )
        if name.lower() in _FRAMING:
            raise TestkitUsageError(
                f"The header {name} is the server's own.", hint="For a body shorter than promised: truncated()."
            )
    return tuple((headers or {}).items())


def _is_header_value(value: str) -> bool:
    return all(char == "\t" or " " <= char <= "~" for char in value)


def _read_retry_after(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if not is_number(value) or value < 0 or value != int(value):
        raise TestkitUsageError(f"retry_after is {value!r}.", hint="Expected whole seconds, or a date in HTTP's form.")
    return str(int(value))


def _read_event(event: Any) -> bytes:  # noqa: ANN401 - a text, an Event, any JSON value
    one = event if isinstance(event, Event) else Event(event)
    for value in (one.name, one.id):
        if "\n" in value or "\r" in value:
            raise TestkitUsageError(f"The event's name or id {value!r} has more than one line.")
    data = one.data if isinstance(one.data, str) else _dump(one.data).decode()
    lines = [f"event: {one.name}"] if one.name else []
    lines += [f"id: {one.id}"] if one.id else []
    lines += [f"data: {line}" for line in re.split(r"\r\n|\r|\n", data)]
    return ("\n".join(lines) + "\n\n").encode()


def _equally_long(blocks: list[bytes]) -> list[bytes]:
    length = max(map(len, blocks)) + len(b":\n")
    return [b":" + b" " * (length - len(block) - 2) + b"\n" + block for block in blocks]


def _read_delay(after: float | Delay) -> Delay:
    return after if isinstance(after, Fixed | Uniform | Lognormal) else Fixed(_require_delay("after", after))


def _require_delay(name: str, seconds: float) -> float:
    if not is_number(seconds) or not 0 <= seconds <= _MAX_SECONDS:
        raise TestkitUsageError(f"{name} is {seconds!r}.", hint=f"Expected seconds, 0 to {_MAX_SECONDS:g}.")
    return float(seconds)


def _require_status(verb: str, status: int, low: int, high: int) -> None:
    if not _is_count(status) or not low <= status <= high:
        raise TestkitUsageError(f"{verb}() cannot answer {status!r}.", hint=f"Expected a status, {low} to {high}.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)
