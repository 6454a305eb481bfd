"""Fit a conversation into the model's context, by exact token counts of the real chat template. Pure.

Strict priority: system prompt, reserved output and query always; then passages of retrieved context, whole, the least
relevant (last) dropped first; then pinned units of the history, then its most recent ones (selection.py). What must be
there and does not fit is an error with the numbers, never a silent cut. Where turns were dropped a marker says so, in
the prompt only, paid for out of the history's room.

What messages cost is added up from remembered counts. Where a template does not add up, the whole prompt is counted
instead, and the history is given less room until it fits: never over the limit either way.
"""

from __future__ import annotations

from itertools import chain, repeat
from typing import Final

from pratique.inference.context._draft import Draft, History
from pratique.inference.context._head import fit_head, system_message
from pratique.inference.context.counts import Costs
from pratique.inference.context.marker import notice_text
from pratique.inference.context.parts import Fitted, Placement, Sizes, Turn, Wanted
from pratique.inference.context.units import units_of
from pratique.inference.settings import BudgetSettings

__all__ = ["RESERVE_DIVISOR", "Fitted", "Placement", "Sizes", "Turn", "Wanted", "fit", "size"]

RESERVE_DIVISOR: Final = 8
"""The reserve for passages is at most this part of the limit: a small context is not all reserve."""


def size(wanted: Wanted, *, costs: Costs, extra_tokens: int = 0) -> int:
    """Return the tokens of prompt and reserved reply if nothing were left out; near them where sums are not exact."""
    system = system_message(wanted, len(wanted.passages))
    messages = (*system, *(turn.message for turn in wanted.history), *wanted.tail)
    tokens = sum([known.tokens for known in costs.cache.look(messages)])
    return costs.frame(messages[0].role == "system") + tokens + extra_tokens + wanted.max_tokens


def fit(wanted: Wanted, *, limit: int, costs: Costs, policy: BudgetSettings, extra_tokens: int = 0) -> Fitted:
    """Choose what goes into a prompt of at most `limit - max_tokens` tokens.

    `extra_tokens` are in the prompt beside the messages (an OpenAI request's tools, where the costs leave them out).

    Raises:
        ContextLengthExceededError: system prompt, query and reserved output alone are more than `limit`.
    """
    head = fit_head(wanted, limit=limit, costs=costs, extra_tokens=extra_tokens)
    messages = [turn.message for turn in wanted.history]
    known = costs.cache.look(messages)
    tokens = tuple([here.tokens for here in known])
    history = History(
        wanted=wanted,
        head=head,
        messages=messages,
        units=units_of(wanted.history, tokens),
        known=known,
        tokens=tokens,
        costs=costs,
        policy=policy,
        extra_tokens=extra_tokens,
    )
    free = limit - wanted.max_tokens - head.prompt_tokens
    reserve = min(policy.context_reserve_tokens, limit // RESERVE_DIVISOR)
    room = free - max(reserve - head.context_tokens, 0)
    draft, cut = history.draft(room, free), 0
    while (over := draft.prompt_tokens + wanted.max_tokens - limit) > 0:
        # Each time at least twice as much, so that it ends soon; without any history it fits.
        cut = max(2 * cut, over)
        draft = history.draft(room - cut, free - cut)
    return _fitted(history, draft)


def _fitted(history: History, draft: Draft) -> Fitted:
    wanted, turns_dropped = history.wanted, draft.turns_dropped
    placements = chain.from_iterable(map(repeat, draft.kept.placements, history.units.sizes))
    return Fitted(
        messages=draft.messages,
        prompt_tokens=draft.prompt_tokens,
        total_tokens=draft.prompt_tokens + wanted.max_tokens,
        sizes=_sizes(history, draft),
        placements=tuple(placements),
        turn_tokens=history.tokens,
        turns_dropped=turns_dropped,
        passages_dropped=len(wanted.passages) - history.head.num_passages,
        entity_block=draft.kept.block,
        recalled=draft.recalled,
        is_marked=draft.is_marked,
        notice=notice_text(turns_dropped) if turns_dropped and _is_long(history) else None,
    )


def _is_long(history: History) -> bool:
    """Whether a person asked so often that they should be told."""
    num_asked = sum(history.units.exchanges)  # every user message begins a unit
    num_asked += [message.role for message in history.wanted.tail].count("user")
    return num_asked > history.policy.notice_turns


def _sizes(history: History, draft: Draft) -> Sizes:
    """Part the prompt's tokens. What sums do not explain is the template's, or taken off the largest part."""
    head = history.head
    sizes = {
        "system": head.system_tokens,
        "context": head.context_tokens,
        "query": head.query_tokens,
        "pinned": draft.kept.pinned_tokens,
        "recent": draft.kept.recent_tokens,
        "marker": draft.marker_tokens,
    }
    template = draft.prompt_tokens - sum(sizes.values())
    while template < 0:
        largest = max(sizes, key=lambda part: sizes[part])
        taken = min(sizes[largest], -template)
        sizes[largest] -= taken
        template += taken
    return Sizes(**sizes, template=template, output=history.wanted.max_tokens)
