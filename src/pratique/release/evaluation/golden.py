"""The golden set: a file of cases, each with what is expected of it. Pure: bytes in, frozen values out, and back.

JSON lines in UTF-8: the first line is the header, every other one a case. Reading is strict, and names the line: an
unknown member, a member twice, a case without anything to check, two cases of one name. An empty set is refused:
nothing could fail. What is written here is read here again to the same value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.evaluation.errors import GoldenSetError
from pratique.release.values import Digest, digest_of

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "MAX_GOLDEN_SET_BYTES",
    "MIN_LOGPROB",
    "Case",
    "Expectation",
    "GoldenSet",
    "Header",
    "Message",
    "Position",
    "Recorded",
    "encode_golden_set",
    "parse_golden_set",
]

MAX_GOLDEN_SET_BYTES: Final = 32 * 1024**2
_MAX_LINE_BYTES: Final = 2 * 1024**2
_MAX_CASES: Final = 10_000
DEFAULT_MAX_TOKENS: Final = 64
MIN_LOGPROB: Final = -9999.0
"""What servers write for minus infinity, and for a log-probability that they do not have (OpenAI's API, and vLLM)."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64 * 1024)]
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_Nats = Annotated[float, msgspec.Meta(gt=0, le=100)]
Logprob = Annotated[float, msgspec.Meta(gt=MIN_LOGPROB, le=0)]

T = TypeVar("T")


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what stands in a line."""


class Recorded(_Line, frozen=True, kw_only=True):
    """Where the reference comes from, for people."""

    model: _Short
    """As the server named it."""
    note: str = ""


class Header(_Line, frozen=True, kw_only=True):
    """The first line."""

    golden_set: Literal[1]
    """The version of the format."""
    name: _Short
    thresholds: dict[str, float] = {}
    """By the names of `scoring.MEASURES`."""
    tolerance: _Nats = 0.25
    """In nats: how far one token's log-probability may be off and still count as within its tolerance."""
    margin: _Nats = 0.5
    """In nats: how far the reference's most probable token must be ahead, for its place to count for `agreement`."""
    recorded: Recorded | None = None


class Message(_Line, frozen=True, kw_only=True):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: _Text


class Expectation(_Line, frozen=True, kw_only=True):
    """What an answer must be, or have in it; exactly one of these."""

    exact: _Text | None = None
    """The whole answer, but for white space around it."""
    contains: _Text | None = None
    regex: _Short | None = None
    """Python's, searched for anywhere in the answer."""


class Position(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A token at its place, as a list of three: what it is, how probable it was, and what else was likely there."""

    token: str
    logprob: Logprob | None
    """In nats. None: the first token of a text has none."""
    top: dict[str, Annotated[float, msgspec.Meta(ge=MIN_LOGPROB, le=0)]] = {}
    """The most probable tokens with theirs."""


class Case(_Line, frozen=True, kw_only=True):
    """A chat or a completion whose answer is checked, or a text whose tokens' log-probabilities are compared."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    chat: Annotated[tuple[Message, ...], msgspec.Meta(min_length=1, max_length=64)] | None = None
    completion: _Text | None = None
    text: _Text | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    """Of the answer; None: `DEFAULT_MAX_TOKENS`. An answer that is cut off there is truncated, and never passes."""
    stop: Annotated[tuple[_Short, ...], msgspec.Meta(max_length=4)] = ()
    """What ends the answer, beside the model's own end."""
    expect: Annotated[tuple[Expectation, ...], msgspec.Meta(max_length=16)] = ()
    """All of it must hold."""
    tolerance: _Nats | None = None
    """In nats; None: the header's."""
    reference: Annotated[tuple[Position, ...], msgspec.Meta(min_length=1)] | None = None
    """The text's tokens, or the answer's; None: not recorded."""


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """A golden set, and the digest of the very bytes it was read from."""

    header: Header
    cases: tuple[Case, ...]
    digest: Digest


def parse_golden_set(content: bytes, *, where: str) -> GoldenSet:
    """Read a golden set.

    Args:
        content: the file's bytes; their digest is the set's.
        where: the file's name, for messages.

    Raises:
        GoldenSetError: it is none; the message says in which line.
    """
    if len(content) > MAX_GOLDEN_SET_BYTES:
        raise GoldenSetError(f"{where} has {len(content)} bytes, at most {MAX_GOLDEN_SET_BYTES} are read")
    lines = content.removesuffix(b"\n").split(b"\n")
    if len(lines) - 1 > _MAX_CASES:
        raise GoldenSetError(f"{where} has {len(lines) - 1} cases, at most {_MAX_CASES} are read")
    header = _read(lines[0], Header, f"{where}:1")
    cases: dict[str, Case] = {}
    for number, line in enumerate(lines[1:], 2):
        case = _read(line, Case, f"{where}:{number}")
        for problem in _problems(case):
            raise GoldenSetError(f"{where}:{number}: the case '{case.id}': {problem}")
        if case.id in cases:
            raise GoldenSetError(f"{where}:{number}: there is a case '{case.id}' already")
        cases[case.id] = case
    if not cases:
        raise GoldenSetError(f"{where} has no cases: nothing could fail")
    return GoldenSet(header, tuple(cases.values()), digest_of(content))


def encode_golden_set(header: Header, cases: tuple[Case, ...]) -> bytes:
    """Write a golden set; the same values give the same bytes."""
    return b"".join(msgspec.json.encode(line) + b"\n" for line in (header, *cases))


def _read(line: bytes, kind: type[T], where: str) -> T:
    if len(line) > _MAX_LINE_BYTES:
        raise GoldenSetError(f"{where}: the line has {len(line)} bytes, at most {_MAX_LINE_BYTES} are read")
    if not line.strip():
        raise GoldenSetError(f"{where}: the line is empty")
    try:
        value = decode_json(line, kind)
        json.loads(line, object_pairs_hook=_unique)
    except (MalformedError, ValueError, RecursionError) as error:
        why = error.message if isinstance(error, MalformedError) else error
        raise GoldenSetError(f"{where}: {why}", hint="The format: docs/release/evaluation.md.") from error
    return value


def _unique(pairs: list[tuple[str, object]]) -> None:
    """Refuse a member that stands twice: of two, readers take either (RFC 8259, 4)."""
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member '{twice[:100]}' stands twice in one object")


def _problems(case: Case) -> Iterator[str]:
    if sum(one is not None for one in (case.chat, case.completion, case.text)) != 1:
        yield "expected exactly one of 'chat', 'completion' and 'text'"
    elif case.text is not None:
        if case.expect or case.stop or case.max_tokens is not None:
            yield "a 'text' is not answered: it has no 'expect', 'stop' or 'max_tokens'"
    elif not case.expect:
        yield "nothing is expected of the answer: 'expect' is missing or empty"
    for one in case.expect:
        if sum(word is not None for word in (one.exact, one.contains, one.regex)) != 1:
            yield "expected exactly one of 'exact', 'contains' and 'regex' in each entry of 'expect'"
        elif one.regex is not None and (problem := _regex_problem(one.regex)):
            yield f"'{one.regex[:100]}' is no regular expression: {problem}"
    yield from _reference_problems(case)


def _reference_problems(case: Case) -> Iterator[str]:
    for number, position in enumerate(case.reference or ()):
        is_first_of_text = case.text is not None and number == 0
        if position.logprob is None and not is_first_of_text:
            yield f"the token {number} of 'reference' has no log-probability"
    if case.text is not None and case.reference is not None and len(case.reference) == 1:
        yield "a 'text' of one token has nothing to compare"


def _regex_problem(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return ""
