"""The context budget of one engine: its costs, remembered, and its prompts as token ids.

The result is checked against the ids that go to the engine. Should the sums of a template not hold for some message,
the whole prompt is counted instead, so that no prompt is ever over its limit.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Final

from pratique.inference.context.budget import Fitted, Placement, Wanted, fit, size
from pratique.inference.context.counts import CostCache, Costs
from pratique.inference.context.recall_interface import Recall
from pratique.inference.engines.interface import ChatMessage, Engine
from pratique.inference.settings import BudgetSettings

__all__ = ["Fitter"]

_JOINERS: Final = "\u200d\ufe0e\ufe0f"
"""Zero-width joiner and variation selectors: they hold an emoji together."""


class Fitter:
    """Fits prompts for one engine. Safe to use from several threads."""

    def __init__(self, engine: Engine, policy: BudgetSettings, *, recall: Recall | None = None) -> None:
        self._engine = engine
        self._policy = policy
        self._recall = recall
        # The engine's costs are asked for each time: they are there once it has started, and new after a restart.
        self._cache = CostCache(self._message_tokens, engine.count)

    def size(self, wanted: Wanted, *, extra_tokens: int = 0) -> int:
        """Tokens of prompt and reserved reply if nothing were left out."""
        return size(wanted, costs=Costs.of(self._engine, self._cache), extra_tokens=extra_tokens)

    def fit(
        self, wanted: Wanted, *, limit: int, prefix: str = "", tools: str = "", extra_tokens: int = 0
    ) -> tuple[Fitted, list[int]]:
        """Return what fits into `limit` tokens of prompt and reply, and the prompt's token ids.

        `prefix` is how the reply begins and `tools` what the template is given under that name; both are counted.
        `extra_tokens` are in the prompt although the ids do not hold them.

        Raises:
            ContextLengthExceededError: what must be in the prompt does not fit.
        """
        costs = Costs.of(self._engine, self._cache, prefix=prefix, tools=tools)
        fitted = self._fit(wanted, limit, costs, extra_tokens)
        ids = self._engine.encode(fitted.messages, prefix=prefix, tools=tools)
        if len(ids) + extra_tokens != fitted.prompt_tokens:
            fitted = self._fit(wanted, limit, replace(costs, is_exact=False), extra_tokens)
            ids = self._engine.encode(fitted.messages, prefix=prefix, tools=tools)
        return fitted, ids

    def _fit(self, wanted: Wanted, limit: int, costs: Costs, extra_tokens: int) -> Fitted:
        fitted = fit(wanted, limit=limit, costs=costs, policy=self._policy, extra_tokens=extra_tokens)
        if self._recall is None or not fitted.turns_dropped:
            return fitted
        dropped = tuple(
            turn.message
            for turn, placement in zip(wanted.history, fitted.placements, strict=True)
            if placement is Placement.DROPPED
        )
        recalled = self._bounded(self._recall.text_for(dropped, _query_of(wanted)))
        if not recalled:
            return fitted
        wanted = replace(wanted, recalled=recalled)
        return fit(wanted, limit=limit, costs=costs, policy=self._policy, extra_tokens=extra_tokens)

    def _message_tokens(self, message: ChatMessage) -> int:
        return self._engine.costs.message(message)

    def _bounded(self, text: str) -> str:
        """Return as much of the text as `recall_tokens` are, never cut inside a character."""
        text = text.strip()
        low, high = 0, len(text) + 1
        probe = len(text)
        while high - low > 1:
            fits = self._engine.count(text[:probe]) <= self._policy.recall_tokens
            low, high = (probe, high) if fits else (low, probe)
            probe = (low + high) // 2
        while 0 < low < len(text) and _is_inside(text, low):
            low -= 1
        return text[:low].rstrip()


def _is_inside(text: str, place: int) -> bool:
    """Whether a cut here would part a character from its accent, or an emoji's pieces from one another."""
    character = text[place]
    return (
        character in _JOINERS
        or text[place - 1] == "\u200d"
        or unicodedata.combining(character) != 0
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
    )


def _query_of(wanted: Wanted) -> str:
    return next((message.content for message in wanted.tail if message.role == "user"), "")
