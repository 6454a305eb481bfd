"""Reading traffic logs: JSON lines → how many requests of each kind. Streams: a log may be larger than memory.

A line is one of: an event of our own access log (`{"event": "request", "prompt_tokens": …, "completion_tokens": …,
"adapter": …}`), anything with an OpenAI usage object (`{"usage": {"prompt_tokens": …, "completion_tokens": …}}`), or a
text to be counted (`{"query": …}` or `{"prompt": …}`). Other events of our log are passed over, and so are lines that
are no JSON where a log has our events: a server's output has the engine's own words too. What is none of these
is counted and named, and past a share of the lines the log is refused: shapes of half a log would be wrong in silence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec

from pratique.inference import logfile
from pratique.inference.engines.tokenizer import load_text_counter
from pratique.inference.errors import ArtifactError, WarmupManifestError
from pratique.inference.warmup.derive import MAX_OUTPUT_TOKENS, Request, Traffic

__all__ = ["BadLine", "LogOptions", "TrafficLog", "load_counter", "load_traffic", "read_traffic"]

_MAX_KINDS: Final = 1_000_000
_NUM_NAMED: Final = 5
_OWN_EVENT: Final = re.compile(rb'"event": ?"request"')

_Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
_Generated: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Adapter: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")]


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: _Tokens
    completion_tokens: _Generated | None = None


class _Line(msgspec.Struct, frozen=True):
    event: str | None = None
    model: str | None = None
    adapter: _Adapter | None = None
    usage: _Usage | None = None
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Generated | None = None
    template_tokens: _Generated | None = None
    query: object = None
    prompt: object = None


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """How a log is read."""

    count: Callable[[str], int] | None = None
    """Counts texts; without it only lines that have counts can be read."""
    max_bad_share: float = 0.01
    template_tokens: int = 0
    """What recorded prompts have on top of the user's text: a shape's tokens are those of the text."""
    model: str | None = None
    """Requests to other models are passed over; lines that name no model are not."""


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that is no request."""

    number: int
    """From 1."""
    why: str


@dataclass(frozen=True, kw_only=True)
class TrafficLog:
    """What was in a log."""

    traffic: Traffic
    num_requests: int
    num_passed_over: int
    """Events that are no requests, and requests to other models."""
    num_bad: int
    first_bad: tuple[BadLine, ...]


def load_traffic(path: Path, options: LogOptions) -> TrafficLog:
    """Read a log: plain or compressed by gzip; `-` is the standard input.

    Raises:
        WarmupManifestError: it cannot be read, or too many of its lines are no requests.
    """
    try:
        return read_traffic(logfile.read_lines(path), options, where=str(path))
    except logfile.LogFileError as error:
        raise WarmupManifestError(f"The traffic log {error.message}", hint=error.hint) from error


def read_traffic(lines: Iterable[bytes | None], options: LogOptions, *, where: str) -> TrafficLog:
    """Count the requests in lines of JSON, None for one that was too long; `where` names the log in errors.

    Raises:
        WarmupManifestError: too many lines are no requests, or texts are to be counted and nothing counts them.
    """
    traffic: Counter[Request] = Counter()
    bad: list[BadLine] = []
    num_bad = num_passed_over = num_words = 0
    is_ours = False
    for number, line in enumerate(lines, start=1):
        if line is not None and not line.strip():
            continue
        is_ours = is_ours or (line is not None and _OWN_EVENT.search(line) is not None)
        num_words += line is not None and not line.lstrip().startswith(b"{")
        try:
            request = _request(line, options)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _NoRequestError) as error:
            num_bad += 1
            if len(bad) < _NUM_NAMED:
                bad.append(BadLine(number=number, why=str(error)))
            continue
        if request is None:
            num_passed_over += 1
            continue
        traffic[request] += 1
        if len(traffic) > _MAX_KINDS:
            raise WarmupManifestError(
                f"{where}, line {number}: more than {_MAX_KINDS} different kinds of requests; is this a traffic log?"
            )
    num_requests = sum(traffic.values())
    if is_ours:
        num_bad, num_passed_over = num_bad - num_words, num_passed_over + num_words
    if num_bad > options.max_bad_share * (num_requests + num_bad):
        raise _too_bad(where, num_bad, num_requests + num_bad, bad)
    return TrafficLog(
        traffic=traffic,
        num_requests=num_requests,
        num_passed_over=num_passed_over,
        num_bad=num_bad,
        first_bad=tuple(bad),
    )


def load_counter(folder: Path) -> Callable[[str], int]:
    """Return what counts a text's tokens with the tokenizer of a model's folder. Takes seconds.

    Raises:
        WarmupManifestError: there is no tokenizer in it.
    """
    try:
        return load_text_counter(folder)
    except ArtifactError as error:
        raise WarmupManifestError(error.message, hint=error.hint) from error


class _NoRequestError(Exception):
    """The line is JSON and no request."""


_DECODER: Final = msgspec.json.Decoder(_Line)


def _request(line: bytes | None, options: LogOptions) -> Request | None:
    """Return the request of a line, None where it is another event or for another model."""
    if line is None:
        raise _NoRequestError(f"it has more than {logfile.MAX_LINE_BYTES} bytes")
    found = _DECODER.decode(line)
    if options.model is not None and found.model not in {None, options.model}:
        return None
    usage = found.usage
    recorded = usage.prompt_tokens if usage else found.prompt_tokens
    if recorded is not None:
        prompt_tokens = max(recorded - (options.template_tokens or found.template_tokens or 0), 1)
    else:
        text = found.query if found.query is not None else found.prompt
        if text is None and found.event is not None:
            return None
        prompt_tokens = _counted(text, options)
    said = (usage.completion_tokens if usage else found.completion_tokens) or 0
    return Request(prompt_tokens, min(said, MAX_OUTPUT_TOKENS), found.adapter)


def _counted(text: object, options: LogOptions) -> int:
    if not isinstance(text, str) or not text:
        raise _NoRequestError("it has neither token counts nor a text")
    if options.count is None:
        raise WarmupManifestError(
            "The log has texts without token counts, and nothing to count them with.",
            hint="Name the folder of the model's tokenizer: --tokenizer FOLDER.",
        )
    return max(options.count(text), 1)


def _too_bad(where: str, num_bad: int, num_lines: int, bad: list[BadLine]) -> WarmupManifestError:
    named = "; ".join(f"line {line.number}: {line.why}" for line in bad)
    return WarmupManifestError(
        f"{num_bad} of {num_lines} lines of {where} are no requests. The first: {named}.",
        hint="A line is JSON with prompt_tokens, usage, query or prompt. --max-bad says which share may be others.",
    )
