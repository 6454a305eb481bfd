"""What came to a scope, when, and which step answered it; what went wrong in that; told for people. Pure.

WireMock says when a request came and how long its answer was delayed, not when the client had it or gave up. A client
whose next request came before the answer to the one before was due has given that up, or asks twice at once; the
timeline says so.
"""

from __future__ import annotations

import base64
import difflib
import itertools
import json as json_
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pratique.testkit.choreography.stubs import METADATA
from pratique.testkit.choreography.waits import gap_between, is_before_answer
from pratique.testkit.errors import UnexpectedAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pratique.testkit.choreography.steps import Step
    from pratique.testkit.choreography.stubs import Script

__all__ = [
    "Attempt",
    "find_problems",
    "gaps_of",
    "near_misses",
    "read_attempts",
    "read_journal",
    "render",
]

_NEAR: Final = 3
_SHOWN_BYTES: Final = 60


class _Request(msgspec.Struct, rename="camel"):
    url: str
    method: str
    logged_date: int
    headers: dict[str, Any] = {}
    body_as_base64: str = ""


class _Response(msgspec.Struct):
    status: int = 0


class _Timing(msgspec.Struct, rename="camel"):
    added_delay: int = 0


class _Stub(msgspec.Struct):
    metadata: dict[str, Any] = {}


class _Entry(msgspec.Struct, rename="camel"):
    request: _Request
    was_matched: bool
    response: _Response = msgspec.field(default_factory=_Response)
    timing: _Timing | None = None
    stub_mapping: _Stub = msgspec.field(default_factory=_Stub)


class _Journal(msgspec.Struct):
    requests: list[_Entry]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One request, as it came, and the step that answered it."""

    number: int
    """From 1, over all clients."""
    client: str
    method: str
    path: str
    """As sent, below the upstream's URL, without the query."""
    query: str
    headers: Mapping[str, str]
    """By their names in lower case; several of one name are joined with a comma."""
    body: bytes
    came_seconds: float
    """After the first attempt."""
    delay_seconds: float
    """Until the answer began, by the script; the parts of a body that come slowly are not counted."""
    status: int | None
    """What was sent; None where the connection was broken instead, or the body cut."""
    is_matched: bool
    """By a script, or a stub that the test has made through the admin API."""
    script: Script | None
    """None where none matched."""
    index: int = -1

    @property
    def step(self) -> Step | None:
        return self.script.steps[self.index] if self.script else None

    @property
    def step_number(self) -> int:
        """From 1; 0 where no script matched."""
        return self.index + 1

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        """The body, read as JSON; ValueError where it is none, or an object has a key twice: readers differ on that."""
        return json_.loads(self.body, object_pairs_hook=_read_object)


def read_journal(answer: bytes, scope: str) -> list[_Entry] | None:
    """Return a scope's entries in the order in which they came, or None where some were lost: its marker is.

    Raises:
        UnexpectedAnswerError: it is no journal of WireMock 3.
    """
    try:
        journal = msgspec.json.decode(answer, type=_Journal)
    except msgspec.MsgspecError as error:
        raise UnexpectedAnswerError(f"WireMock's journal cannot be read: {error}.") from error
    prefix = f"/{scope}"
    own = [entry for entry in reversed(journal.requests) if _path_of(entry) == prefix or _is_below(entry, prefix)]
    if not any(_path_of(entry) == prefix for entry in own):
        return None
    return sorted(
        (entry for entry in own if _is_below(entry, prefix)), key=lambda entry: entry.request.logged_date
    )  # sorted() keeps the order of those that came in the same millisecond


def read_attempts(entries: Sequence[_Entry], scope: str, scripts: Mapping[int, Script]) -> list[Attempt]:
    """Return entries of the journal as attempts."""
    first = entries[0].request.logged_date if entries else 0
    return [_read_attempt(number, entry, scope, (first, scripts)) for number, entry in enumerate(entries, 1)]


def _read_attempt(number: int, entry: _Entry, scope: str, known: tuple[int, Mapping[int, Script]]) -> Attempt:
    first, scripts = known
    request = entry.request
    address, _, query = request.url.partition("?")
    client, slash, path = address.removeprefix(f"/{scope}/").partition("/")
    about = entry.stub_mapping.metadata.get(METADATA, {})
    script = scripts.get(about.get("script", 0))
    index = int(about.get("step", -1))
    step = script.steps[index] if script else None
    is_broken = step is not None and (step.fault is not None or step.missing_bytes > 0)
    return Attempt(
        number=number,
        client=client,
        method=request.method,
        path=slash + path,
        query=query,
        headers={name.lower(): _join(value) for name, value in request.headers.items()},
        body=base64.b64decode(request.body_as_base64),
        came_seconds=(request.logged_date - first) / 1000,
        delay_seconds=(entry.timing.added_delay if entry.timing else 0) / 1000,
        status=None if is_broken else entry.response.status,
        is_matched=entry.was_matched,
        script=script,
        index=index,
    )


def gaps_of(attempts: Sequence[Attempt]) -> list[float]:
    """Return the seconds from each attempt's coming to the next one's."""
    return [round(after.came_seconds - before.came_seconds, 3) for before, after in itertools.pairwise(attempts)]


def find_problems(attempts: Sequence[Attempt], scripts: Iterable[Script]) -> list[str]:
    """Return what makes a test's result worthless, however it came out."""
    return [*_unforeseen(attempts), *_served_twice(attempts), *_unmatched(attempts, list(scripts))]


def _unforeseen(attempts: Iterable[Attempt]) -> list[str]:
    return [
        f"attempt {one.number} came when the script for {one.script.route} was exhausted"
        for one in attempts
        if one.script and one.step and one.step.is_exhausted
    ]


def _served_twice(attempts: Iterable[Attempt]) -> list[str]:
    served = Counter(
        (one.script, one.client, one.index)
        for one in attempts
        if one.script is not None and one.index < len(one.script.steps) - 1
    )
    return [
        f"step {index + 1} of the script for {script.route} answered {count} requests of the client '{client}', which "
        "asked at once: give each client its own, upstream.client(name)"
        for (script, client, index), count in served.items()
        if count > 1
    ]


def _unmatched(attempts: Iterable[Attempt], scripts: list[Script]) -> list[str]:
    return [
        f"attempt {one.number}, {one.method} {one.path}, matched no script: {'; '.join(_near(one, scripts))}"
        for one in attempts
        if not one.is_matched
    ]


def near_misses(attempts: Iterable[Attempt], scripts: Iterable[Script]) -> str:
    """Return what matched no script, each with the scripts that were nearest; "" where all matched."""
    known = list(scripts)
    blocks = [
        "\n  ".join([f"{one.method} {one.path or '/'} (attempt {one.number}) matched no script", *_near(one, known)])
        for one in attempts
        if not one.is_matched
    ]
    return "\n".join(blocks)


def _near(attempt: Attempt, scripts: Sequence[Script]) -> list[str]:
    if not scripts:
        return ["there is no script at all"]
    if any(script.route.covers(attempt.method, attempt.path) for script in scripts):
        return ["a script is for it, and was moved on at the same moment: this client asked twice at once"]
    asked = f"{attempt.method} {attempt.path}"
    return [
        f"near: {script.route} ({_difference(attempt, script)})"
        for script in sorted(
            scripts, key=lambda script: difflib.SequenceMatcher(None, asked, str(script.route)).ratio(), reverse=True
        )[:_NEAR]
    ]


def _difference(attempt: Attempt, script: Script) -> str:
    route = script.route
    parts = [] if route.method in ("ANY", attempt.method) else ["the method differs"]
    parts += [] if route.path in ("", attempt.path) else ["the path differs"]
    return ", ".join(parts)


def render(attempts: Sequence[Attempt]) -> str:
    """Return the timeline, a line for each attempt."""
    several = len({one.client for one in attempts}) > 1
    latest: dict[str, Attempt] = {}
    lines = []
    for one in attempts:
        before = latest.get(one.client)
        latest[one.client] = one
        who = f"{one.client}: " if several else ""
        lines.append(f"{one.came_seconds:8.3f} s  {_gap(before, one)}  {who}{_line(one)}{_overtaken(before, one)}")
    return "\n".join(lines)


def _gap(before: Attempt | None, one: Attempt) -> str:
    return " " * 10 if before is None else f"{f'+{one.came_seconds - before.came_seconds:.3f} s':>10}"


def _line(one: Attempt) -> str:
    address = f"{one.path or '/'}{'?' + one.query if one.query else ''}"
    what = f"step {one.step_number}: {one.step.label}" if one.step else f"{one.status} by a stub of the test's own"
    what = what if one.is_matched else f"{one.status} no script matched"
    late = f" after {one.delay_seconds:g} s" if one.delay_seconds else ""
    body = one.text[:_SHOWN_BYTES] + ("..." if len(one.text) > _SHOWN_BYTES else "")
    return f"{one.method} {address}{f' {body!r}' if body else ''} -> {what}{late}"


def _overtaken(before: Attempt | None, one: Attempt) -> str:
    if before is None or not is_before_answer(before, one):
        return ""
    return f"  [attempt {before.number} was given up within {gap_between(before, one):.3f} s, or overtaken]"


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for key, _ in pairs)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} stands in an object more than once")
    return dict(pairs)


def _path_of(entry: _Entry) -> str:
    return entry.request.url.partition("?")[0]


def _is_below(entry: _Entry, prefix: str) -> bool:
    return _path_of(entry).startswith(prefix + "/")


def _join(value: Any) -> str:  # noqa: ANN401 - WireMock's: a text, or a list of texts
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
