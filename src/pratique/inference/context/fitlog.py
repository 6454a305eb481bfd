"""Reserves from data: the sizes of the parts in a log of conversations, and the settings that follow. Pure.

Only how often each size came is kept, so a log of any length takes no more memory than it has different sizes.

The rules, each said beside its figure:

- `context_reserve_tokens` is the 95th percentile of the retrieved context, rounded up to 50, and at most an eighth of
  the model's length, which is all that the budget would keep;
- `output_reserve_tokens` is the 95th percentile of the replies, rounded up to 50: it counts where a request does not
  say its max_tokens, and 1 reply in 20 is then cut;
- a turn, here, is a question with its answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from pratique.core.errors import CallerError
from pratique.inference.context._head import system_message
from pratique.inference.context.budget import RESERVE_DIVISOR
from pratique.inference.context.conversation import Conversation, ConversationError, parse_conversation
from pratique.inference.context.parts import Turn, Wanted
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.settings import BudgetSettings

__all__ = [
    "PARTS",
    "BadLine",
    "LogReader",
    "LogTooBadError",
    "PartSizes",
    "Proposal",
    "Survey",
    "propose",
    "turns_that_fit",
]

PARTS: Final = ("system", "context", "query", "reply", "turn")
_ROUND_TO: Final = 50
_MAX_NAMED: Final = 20


class LogTooBadError(CallerError):
    """Too much of a log is not what it should be: reserves made from the rest would be about something else."""

    code = "invalid_conversation_log"


class PartSizes:
    """How often a part had which size, in tokens."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, tokens: int) -> None:
        self._counts[tokens] += 1

    @property
    def number(self) -> int:
        return self._counts.total()

    def percentile(self, percent: float) -> int:
        """Return the smallest size that so many percent do not exceed (nearest rank); 0 of none."""
        rank, seen = math.ceil(percent / 100 * self.number), 0
        for tokens in sorted(self._counts):
            seen += self._counts[tokens]
            if seen >= rank:
                return tokens
        return 0


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that is no conversation."""

    number: int
    why: str


class Survey:
    """The sizes of one log, conversation by conversation."""

    def __init__(self, cost: Callable[[ChatMessage], int], count: Callable[[str], int]) -> None:
        self._cost = cost
        self._count = count
        self.num_conversations = 0
        self.parts: dict[str, PartSizes] = {part: PartSizes() for part in PARTS}

    def add(self, conversation: Conversation) -> None:
        """Measure one. A part that it does not have is not counted as empty."""
        self.num_conversations += 1
        bare, whole = self._head_tokens(conversation)
        if conversation.system:
            self.parts["system"].add(bare)
        if conversation.passages:
            self.parts["context"].add(whole - bare)
        self.parts["query"].add(sum(map(self._cost, conversation.tail)))
        if conversation.reply_tokens is not None or conversation.reply:
            self.parts["reply"].add(_given(conversation.reply_tokens, lambda: self._count(conversation.reply)))
        for exchange in _exchanges(conversation.history):
            self.parts["turn"].add(sum(self._cost(turn.message) for turn in exchange))

    def _head_tokens(self, conversation: Conversation) -> tuple[int, int]:
        """Tokens of the system prompt, and of it with the passages, each as it goes into a prompt."""
        wanted = Wanted(tail=(), system_prompt=conversation.system, passages=conversation.passages, max_tokens=0)
        bare, whole = (system_message(wanted, number) for number in (0, len(wanted.passages)))
        return sum(map(self._cost, bare)), sum(map(self._cost, whole))


@dataclass
class LogReader:
    """Reads lines into a survey; what is no conversation is named and counted."""

    survey: Survey
    num_lines: int = 0
    num_bad: int = 0
    bad: list[BadLine] = field(default_factory=list)
    """The first of them."""

    def read(self, lines: Iterable[bytes | None]) -> None:
        """Read JSON lines; None stands for a line that was too long to be kept. Empty lines are not counted."""
        for number, line in enumerate(lines, start=1):
            if line is not None and not line.strip():
                continue
            self.num_lines += 1
            try:
                self.survey.add(_parsed(line))
            except ConversationError as error:
                self._note(BadLine(number=number, why=error.message))

    def _note(self, line: BadLine) -> None:
        self.num_bad += 1
        if len(self.bad) < _MAX_NAMED:
            self.bad.append(line)

    def verify(self, *, max_bad_share: float) -> None:
        """Raise LogTooBadError where nothing, or not enough, of the log could be used."""
        if not self.survey.num_conversations:
            first = f" The first line that is none is {self.bad[0].number}: {self.bad[0].why}" if self.bad else ""
            raise LogTooBadError(
                f"The log has no conversation in {self.num_lines} lines.{first}",
                hint='Expected one JSON object a line, like {"messages": [{"role": "user", "content": "…"}]}.',
            )
        if self.num_bad > max_bad_share * self.num_lines:
            raise LogTooBadError(
                f"{self.num_bad} of {self.num_lines} lines are no conversations, more than {max_bad_share:.1%}; "
                f"the first is line {self.bad[0].number}: {self.bad[0].why}",
                hint="Correct them, or allow more with --max-bad.",
            )


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Settings for `[inference.budget]`, and what they mean for conversations of this log's sizes."""

    context_reserve_tokens: int | None
    """None, as for the next one, where the log has nothing of the kind: the default stays."""
    output_reserve_tokens: int | None
    is_context_capped: bool
    """The data would have more; the budget keeps at most an eighth of the context."""
    turns_at_medians: int
    """Of the median size, that fit beside the medians of everything else."""
    turns_at_reserves: int
    """That fit beside these reserves, or the defaults where there is none."""


def propose(survey: Survey, *, max_model_len: int, frame_tokens: int = 0) -> Proposal:
    """Return what the sizes say. `frame_tokens` is what the template adds to a prompt without any message."""
    medians = {part: sizes.percentile(50) for part, sizes in survey.parts.items()}
    defaults, most = BudgetSettings(), max_model_len // RESERVE_DIVISOR
    context = _reserve(survey.parts["context"])
    output = _reserve(survey.parts["reply"])
    capped = None if context is None else min(context, most)
    kept = defaults.context_reserve_tokens if capped is None else capped
    reserves = {
        **medians,
        "context": min(kept, most),
        "reply": defaults.output_reserve_tokens if output is None else output,
    }
    return Proposal(
        context_reserve_tokens=capped,
        output_reserve_tokens=output,
        is_context_capped=context is not None and context > most,
        turns_at_medians=turns_that_fit(medians, max_model_len=max_model_len - frame_tokens),
        turns_at_reserves=turns_that_fit(reserves, max_model_len=max_model_len - frame_tokens),
    )


def turns_that_fit(sizes: dict[str, int], *, max_model_len: int) -> int:
    """How many turns of the size `turn` fit beside one of each other part; 0 where a turn has no size."""
    room = max_model_len - sum(sizes[part] for part in PARTS if part != "turn")
    return max(room // sizes["turn"], 0) if sizes["turn"] else 0


def _reserve(sizes: PartSizes) -> int | None:
    """Return the 95th percentile rounded up, at least 1 step; None where nothing was measured."""
    return max(math.ceil(sizes.percentile(95) / _ROUND_TO), 1) * _ROUND_TO if sizes.number else None


def _parsed(line: bytes | None) -> Conversation:
    if line is None:
        raise ConversationError("The line is too long.")
    return parse_conversation(line)


def _given(value: int | None, measure: Callable[[], int]) -> int:
    return measure() if value is None else value


def _exchanges(history: Iterable[Turn]) -> list[list[Turn]]:
    """Part a history before each user message."""
    found: list[list[Turn]] = []
    for turn in history:
        if turn.message.role == "user" or not found:
            found.append([])
        found[-1].append(turn)
    return found
