"""A server of the OpenAI API in this process, for evaluations: it says what a script says, or nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pratique.release.evaluation.errors import IncompleteEvaluationError
from pratique.release.evaluation.settings import EvaluationSettings
from pratique.release.evaluation.wire import Ask

MODEL = "small"
Edit = Callable[[dict[str, Any]], object]
PATIENT = EvaluationSettings(regex_seconds=20)


def lines(*values: object) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in values)


CASES = (
    {
        "id": "france",
        "chat": [{"role": "user", "content": "What is the capital of France?"}],
        "expect": [{"contains": "Paris"}, {"regex": r"\bParis\b"}],
    },
    {"id": "days", "completion": "Monday,", "stop": [","], "max_tokens": 8, "expect": [{"exact": "Tuesday"}]},
    {"id": "seas", "text": "the sea is blue"},
)
THRESHOLDS = {"answers": 0.9, "logprob-mean": 0.05, "agreement": 0.9}
BARE = lines({"golden_set": 1, "name": "test", "thresholds": THRESHOLDS}, *CASES)


@dataclass
class ScriptedModel:
    """Answers by the prompt: `words` after it, with log-probabilities; `shift` puts them off, `edits` the bodies."""

    shift: float = 0.0
    answers: dict[str, str] = field(
        default_factory=lambda: {"What is the capital of France?": "It is Paris .", "Monday,": " Tuesday"}
    )
    edit: Edit = lambda body: None
    raw: bytes | None = None
    models: tuple[str, ...] = (MODEL,)
    settings: EvaluationSettings = PATIENT
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    base: str = "http://scripted"

    def get(self, path: str) -> bytes:
        assert path == "/v1/models"
        return json.dumps({"data": [{"id": name} for name in self.models]}).encode()

    def post(self, ask: Ask) -> bytes:
        body = json.loads(ask.body)
        self.asked.append((ask.path, body))
        if self.raw is not None:
            return self.raw
        answer = self._chat(body) if "messages" in body else self._completion(body)
        self.edit(answer)
        return json.dumps(answer).encode()

    def _chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        words = self.answers[body["messages"][-1]["content"]].split()
        content = [
            {"token": word, "logprob": self._near(), "top_logprobs": [{"token": w, "logprob": p} for w, p in top]}
            for word in words
            for top in [self._top(word).items()]
        ]
        choice = {"message": {"content": " ".join(words)}, "finish_reason": "stop", "logprobs": {"content": content}}
        return self._body(body, choice)

    def _completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        is_text = bool(body.get("echo"))
        said = body["prompt"] if is_text else self.answers[body["prompt"]]
        words = said.split()
        logprobs: dict[str, Any] = {
            "tokens": words,
            "token_logprobs": [None if is_text and not number else self._near() for number in range(len(words))],
            "top_logprobs": [None if is_text and not number else self._top(word) for number, word in enumerate(words)],
        }
        choice = {"text": said, "finish_reason": "length" if is_text else "stop", "logprobs": logprobs}
        return self._body(body, choice)

    def _body(self, body: Mapping[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
        if "logprobs" not in body:
            choice["logprobs"] = None
        return {"model": body["model"], "system_fingerprint": "one", "choices": [choice]}

    def _near(self) -> float:
        return math.log(0.8) - self.shift

    def _top(self, word: str) -> dict[str, float]:
        return {word: self._near(), "?": math.log(0.1)}


class SilentModel(ScriptedModel):
    """Has the model, and answers nothing: the first time at once, then after a while."""

    def post(self, ask: Ask) -> bytes:
        self.asked.append((ask.path, {}))
        if len(self.asked) > 1:
            time.sleep(0.05)
        raise IncompleteEvaluationError(f"POST {ask.path}: the server does not answer: refused")
