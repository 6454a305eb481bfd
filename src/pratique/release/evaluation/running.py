"""Puts a golden set to a server: to evaluate what is served, or to record the reference from a server that is trusted.

1. The server has a model of that name.
2. Each case is asked once, several at a time; the first that has no whole answer ends all.
3. All answers come from one build.
4. Answers are checked and log-probabilities compared (`scoring`), or written down as the reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError
from pratique.release.evaluation.errors import OtherModelError
from pratique.release.evaluation.golden import (
    MIN_LOGPROB,
    Case,
    GoldenSet,
    Position,
    Recorded,
    encode_golden_set,
    parse_golden_set,
)
from pratique.release.evaluation.regexes import search_all
from pratique.release.evaluation.scoring import (
    Answer,
    Comparison,
    Limit,
    Measure,
    Verdict,
    compare,
    decide,
    measure,
)
from pratique.release.evaluation.settings import EvaluationSettings
from pratique.release.evaluation.wire import MODELS_PATH, Ask, Reply, make_ask, read_models, read_reply
from pratique.release.plain import plain
from pratique.release.predicates import Evaluation

__all__ = ["Evaluated", "Server", "evaluate", "record", "require_measurable"]

_SHOWN: Final = 5
_DIGITS: Final = 4
"""Of a log-probability in nats; number formats differ in the third."""


class Server(Protocol):
    """What is asked; `client.HttpServer` is one."""

    @property
    def settings(self) -> EvaluationSettings: ...

    def get(self, path: str) -> bytes: ...

    def post(self, ask: Ask) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was found out about a model."""

    evaluation: Evaluation
    """What goes into the evidence."""
    verdict: Verdict
    measures: Mapping[str, Measure]
    """All of them, with a limit and without."""
    notes: tuple[str, ...]
    """Which answers were wrong, and which tokens were off most."""


def require_measurable(golden: GoldenSet, limits: Mapping[str, Limit]) -> None:
    """Refuse limits that no case of the set can be held to, before anything is asked.

    Raises:
        CallerError: there are none, or one without a case; or a text has no reference yet.
    """
    if not limits:
        raise CallerError(
            "nothing is required of the model: there are no thresholds",
            hint="They stand in the golden set's first line, or in a policy (--policy), or are given (--threshold).",
        )
    bare = [case.id for case in golden.cases if case.text is not None and case.reference is None]
    if bare:
        raise CallerError(
            f"the case '{bare[0]}' is a text without a reference",
            hint="Record it from a server that is trusted: pratique eval record.",
        )
    has = {
        "answers": any(case.text is None for case in golden.cases),
        "tokens": any(case.reference is not None for case in golden.cases),
        "texts": any(case.text is not None for case in golden.cases),
    }
    needed = {"answers": "answers", "answers-low": "answers", "truncated": "answers", "perplexity": "texts"}
    for name in limits:
        if not has[needed.get(name, "tokens")]:
            raise CallerError(f"there is a threshold for '{name}', and no case of the golden set measures it")


def evaluate(server: Server, golden: GoldenSet, model: str, limits: Mapping[str, Limit]) -> Evaluated:
    """Put a golden set to a model, and hold what comes back to limits.

    Raises:
        CallerError: as `require_measurable`.
        OtherModelError: something else answered.
        IncompleteEvaluationError: not every case has a whole answer.
    """
    require_measurable(golden, limits)
    replies = _ask_all(server, golden, model, is_recording=False)
    answers = [_answer(case, reply, server.settings) for case, reply in replies if case.text is None]
    comparisons = [
        one
        for case, reply in replies
        if case.reference is not None
        for one in compare(case, reply.positions, golden.header)
    ]
    measures = measure(answers, comparisons)
    verdict = decide(measures, limits)
    notes = (*_wrong(answers, {case.id: reply for case, reply in replies}), *_worst(comparisons))
    return Evaluated(Evaluation(model=model, golden_set=golden.digest, checks=verdict.checks), verdict, measures, notes)


def record(server: Server, golden: GoldenSet, model: str, *, note: str = "") -> bytes:
    """Return the golden set with the reference that this server gives.

    Raises:
        EvidenceError: an answer is not what the set itself expects, is cut off, or has a log-probability that is none:
            this is no server to be trusted.
        OtherModelError, IncompleteEvaluationError: as `evaluate`.
    """
    replies = _ask_all(server, golden, model, is_recording=True)
    cases = tuple(_recorded(case, reply, server.settings) for case, reply in replies)
    header = msgspec.structs.replace(golden.header, recorded=Recorded(model=model, note=note))
    content = encode_golden_set(header, cases)
    parse_golden_set(content, where="what was recorded")
    return content


def _ask_all(server: Server, golden: GoldenSet, model: str, *, is_recording: bool) -> list[tuple[Case, Reply]]:
    names = read_models(server.get(MODELS_PATH))
    if model not in names:
        raise OtherModelError(
            f"the server has no model '{model}'; it has: {', '.join(plain(name, max_characters=100) for name in names)}"
        )
    with ThreadPoolExecutor(server.settings.concurrency, thread_name_prefix="pratique-evaluation") as pool:
        futures = [pool.submit(_ask, server, case, model, is_recording=is_recording) for case in golden.cases]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for one in waiting:
            one.cancel()
    for one in futures:
        if one in done:
            one.result()
    replies = [(case, future.result()) for case, future in zip(golden.cases, futures, strict=True)]
    fingerprints = sorted({reply.fingerprint for _, reply in replies})
    if len(fingerprints) > 1:
        raise OtherModelError(
            f"several builds answered: {', '.join(plain(one, max_characters=100) or '(none)' for one in fingerprints)}",
            hint="Ask one server, not a balancer before several.",
        )
    return replies


def _ask(server: Server, case: Case, model: str, *, is_recording: bool) -> Reply:
    with_logprobs = is_recording or case.reference is not None
    body = server.post(make_ask(case, model, with_logprobs=with_logprobs))
    return read_reply(case, body, model, with_logprobs=with_logprobs)


def _answer(case: Case, reply: Reply, settings: EvaluationSettings) -> Answer:
    text = reply.text
    plainly = (
        (one.contains is None or one.contains in text) and (one.exact is None or one.exact.strip() == text.strip())
        for one in case.expect
    )
    patterns = [one.regex for one in case.expect if one.regex is not None]
    is_right = all(plainly) and all(search_all(patterns, text, seconds=settings.regex_seconds))
    return Answer(case.id, is_right and not reply.is_truncated, reply.is_truncated)


def _recorded(case: Case, reply: Reply, settings: EvaluationSettings) -> Case:
    if case.text is None:
        answer = _answer(case, reply, settings)
        if not answer.is_right:
            what = "is cut off" if answer.is_truncated else "is not what is expected"
            raise EvidenceError(
                f"the case '{case.id}': the answer of the server {what}: {plain(reply.text, max_characters=200)}",
                hint="Change the case, or record from a server that can be trusted.",
            )
    for place in reply.positions:
        if place.logprob is not None and not MIN_LOGPROB < place.logprob <= 0:
            raise EvidenceError(
                f"the case '{case.id}': the token '{plain(place.token)}' has no log-probability that is one"
            )
    return msgspec.structs.replace(case, reference=tuple(map(_rounded, reply.positions)))


def _rounded(place: Position) -> Position:
    logprob = None if place.logprob is None else round(place.logprob, _DIGITS)
    return Position(place.token, logprob, {token: round(one, _DIGITS) for token, one in place.top.items()})


def _wrong(answers: Sequence[Answer], replies: Mapping[str, Reply]) -> Iterator[str]:
    for one in answers:
        if not one.is_right:
            what = "cut off" if one.is_truncated else "wrong"
            yield f"{one.case}: the answer is {what}: {plain(replies[one.case].text, max_characters=200)}"


def _worst(comparisons: Sequence[Comparison]) -> Iterator[str]:
    for one in comparisons:
        if not one.is_usable:
            yield f"{one.case}: the token {plain(one.token)} has no log-probability that is one"
    usable = sorted((one for one in comparisons if one.is_usable), key=lambda one: one.deviation, reverse=True)
    for one in usable[:_SHOWN]:
        if not one.is_within_tolerance:
            yield f"{one.case}: the token {plain(one.token)} is off by {one.deviation:.3f} nats"
