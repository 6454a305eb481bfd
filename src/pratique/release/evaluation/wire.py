"""The OpenAI API as an evaluation speaks it: what is asked, and what the answers say. Pure.

Answers come from whatever is served: what is missing in one, or of another shape, leaves the evaluation incomplete. An
answer that names another model is refused. Of what is not standard, vLLM's `return_tokens_as_token_ids` is asked for:
several tokens may look alike as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.evaluation.errors import IncompleteEvaluationError, OtherModelError
from pratique.release.evaluation.golden import DEFAULT_MAX_TOKENS, Case, Position
from pratique.release.plain import plain

__all__ = ["MODELS_PATH", "Ask", "Reply", "make_ask", "read_models", "read_reply"]

MODELS_PATH: Final = "/v1/models"
_TOP: Final = 5
"""Of the most probable tokens; more is not given by every server."""
_ENDED: Final = "stop"
_TRUNCATED: Final = "length"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answer says."""

    text: str
    """Empty for a text that was only looked at."""
    is_truncated: bool
    positions: tuple[Position, ...]
    """Empty where none were asked for. Log-probabilities are as the server says them, be they numbers or not."""
    fingerprint: str
    """Of the build, as the server names it; empty where it does not."""


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: tuple[_Model, ...]


class _Likely(msgspec.Struct, frozen=True):
    token: str
    logprob: float


class _ChatToken(msgspec.Struct, frozen=True):
    token: str
    logprob: float | None = None
    top_logprobs: tuple[_Likely, ...] | None = None


class _ChatLogprobs(msgspec.Struct, frozen=True):
    content: tuple[_ChatToken, ...] | None = None

    def places(self) -> Iterator[Position]:
        for one in self.content or ():
            yield Position(one.token, one.logprob, {other.token: other.logprob for other in one.top_logprobs or ()})


class _Logprobs(msgspec.Struct, frozen=True):
    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float] | None, ...] | None = None

    def places(self) -> Iterator[Position]:
        likely = self.top_logprobs or (None,) * len(self.tokens)
        for token, logprob, top in zip(self.tokens, self.token_logprobs, likely, strict=True):
            yield Position(token, logprob, top or {})


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _ChatChoice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None

    @property
    def said(self) -> str:
        return self.message.content or ""


class _Choice(msgspec.Struct, frozen=True):
    text: str
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    @property
    def said(self) -> str:
        return self.text


class _ChatBody(msgspec.Struct, frozen=True):
    model: str
    choices: tuple[_ChatChoice, ...]
    system_fingerprint: str | None = None


class _Body(msgspec.Struct, frozen=True):
    model: str
    choices: tuple[_Choice, ...]
    system_fingerprint: str | None = None


def make_ask(case: Case, model: str, *, with_logprobs: bool) -> Ask:
    """Return the request that puts a case to a model. Greedy: the same question has the same answer."""
    if case.text is not None:
        # A text is echoed with what the model thinks of it; nothing is generated.
        echoed = {"prompt": case.text, "echo": True, "max_tokens": 0, "logprobs": _TOP}
        return _ask("/v1/completions", model, echoed)
    given: dict[str, object] = {"max_tokens": case.max_tokens or DEFAULT_MAX_TOKENS}
    if case.stop:
        given["stop"] = case.stop
    if case.chat is not None:
        given |= {"logprobs": True, "top_logprobs": _TOP} if with_logprobs else {}
        return _ask("/v1/chat/completions", model, {"messages": case.chat, **given})
    given |= {"logprobs": _TOP} if with_logprobs else {}
    return _ask("/v1/completions", model, {"prompt": case.completion, **given})


def read_models(body: bytes) -> tuple[str, ...]:
    """Return the names of the models that a server has.

    Raises:
        IncompleteEvaluationError: this is no list of models.
    """
    return tuple(one.id for one in _decode(body, _Models, MODELS_PATH).data)


def read_reply(case: Case, body: bytes, model: str, *, with_logprobs: bool) -> Reply:
    """Read the answer to a case.

    Raises:
        OtherModelError: another model answered.
        IncompleteEvaluationError: something is missing in it; the message says what.
    """
    where = f"the case '{case.id}'"
    answer: _ChatBody | _Body = _decode(body, _ChatBody, where) if case.chat else _decode(body, _Body, where)
    if answer.model != model:
        raise OtherModelError(
            f"{where}: the model '{plain(answer.model, max_characters=200)}' answered, expected '{model}'"
        )
    if len(answer.choices) != 1:
        raise IncompleteEvaluationError(f"{where}: expected one answer, got {len(answer.choices)}")
    [choice] = answer.choices
    is_text = case.text is not None
    if not is_text and choice.finish_reason not in {_ENDED, _TRUNCATED}:
        ended = plain(choice.finish_reason or "nothing", max_characters=200)
        raise IncompleteEvaluationError(f"{where}: the answer ended with '{ended}', expected 'stop'")
    return Reply(
        text="" if is_text else choice.said,
        is_truncated=not is_text and choice.finish_reason == _TRUNCATED,
        positions=_positions(case, choice, where) if with_logprobs or is_text else (),
        fingerprint=answer.system_fingerprint or "",
    )


def _ask(path: str, model: str, members: Mapping[str, object]) -> Ask:
    always = {"model": model, "temperature": 0, "n": 1, "return_tokens_as_token_ids": True}
    return Ask(path, msgspec.json.encode({**always, **members}))


def _positions(case: Case, choice: _ChatChoice | _Choice, where: str) -> tuple[Position, ...]:
    try:
        places = tuple(choice.logprobs.places()) if choice.logprobs is not None else ()
    except ValueError as error:
        raise IncompleteEvaluationError(
            f"{where}: the answer has not as many log-probabilities as tokens: {error}"
        ) from error
    if not places:
        raise IncompleteEvaluationError(
            f"{where}: the answer has no log-probabilities", hint="The server must give them: `logprobs`, and `echo`."
        )
    for number, place in enumerate(places):
        if case.text is not None and number == 0:
            continue  # nothing comes before it
        if place.logprob is None or not place.top:
            missing = "log-probability" if place.logprob is None else "alternatives"
            raise IncompleteEvaluationError(f"{where}: the token {number} of the answer has no {missing}")
    return places


def _decode(body: bytes, kind: type[T], where: str) -> T:
    try:
        return decode_json(body, kind)
    except MalformedError as error:
        # A server that computes NaN may write it so, and JSON has no such number.
        raise IncompleteEvaluationError(f"{where}: the server's answer cannot be used: {error.message}") from error
