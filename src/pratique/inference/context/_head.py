"""The part of a prompt that goes before history: what must be there, and the passages. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from pratique.inference.context.counts import Costs
from pratique.inference.context.parts import Wanted
from pratique.inference.engines.interface import ChatMessage
from pratique.inference.errors import ContextLengthExceededError

__all__ = ["Head", "fit_head", "system_message"]

_HINTS: Final = {
    "the query": "Shorten the message.",
    "the system prompt": "Shorten the system prompt.",
    "the reserve for the reply": "Ask for fewer tokens with max_tokens.",
    "the template": "Send fewer or shorter tools.",
}


class Head(NamedTuple):
    """Everything but the history, as it goes into the prompt."""

    system: tuple[ChatMessage, ...]
    """One message or none: system prompt and passages."""
    num_passages: int
    prompt_tokens: int
    """Of the prompt without history."""
    system_tokens: int
    context_tokens: int
    query_tokens: int


def system_message(wanted: Wanted, num_passages: int) -> tuple[ChatMessage, ...]:
    """Return the system prompt with the first passages in one message, or nothing."""
    context = "Context:\n" + "\n".join(wanted.passages[:num_passages]) if num_passages else ""
    text = "\n\n".join([part for part in (wanted.system_prompt, context) if part])
    return (ChatMessage("system", text),) if text else ()


def fit_head(wanted: Wanted, *, limit: int, costs: Costs, extra_tokens: int) -> Head:
    """Take what must be there, and as many passages as fit.

    Raises:
        ContextLengthExceededError: what must be there does not fit; with the tokens of every part.
    """
    query_tokens = sum([known.tokens for known in costs.cache.look(wanted.tail)])

    def with_passages(num_passages: int) -> Head:
        system = system_message(wanted, num_passages)
        system_tokens = costs.cache.message(system[0]) if system else 0
        if costs.is_exact:
            prompt_tokens = costs.frame(bool(system)) + system_tokens + query_tokens
        else:
            prompt_tokens = costs.count((*system, *wanted.tail))
        return Head(
            system=system,
            num_passages=num_passages,
            prompt_tokens=prompt_tokens + extra_tokens,
            system_tokens=system_tokens if num_passages == 0 else bare.system_tokens,
            context_tokens=0 if num_passages == 0 else system_tokens - bare.system_tokens,
            query_tokens=query_tokens,
        )

    room = limit - wanted.max_tokens
    best = bare = with_passages(0)
    if bare.prompt_tokens > room:
        raise _too_long(wanted, limit, bare)
    too_many = len(wanted.passages) + 1
    probe = too_many - 1  # mostly all of them fit
    while too_many - best.num_passages > 1:
        tried = with_passages(probe)
        best, too_many = (tried, too_many) if tried.prompt_tokens <= room else (best, probe)
        probe = (best.num_passages + too_many) // 2
    return best


def _too_long(wanted: Wanted, limit: int, head: Head) -> ContextLengthExceededError:
    template_tokens = head.prompt_tokens - head.system_tokens - head.query_tokens
    sizes = {
        "the system prompt": head.system_tokens,
        "the query": head.query_tokens,
        "the template": max(template_tokens, 0),
        "the reserve for the reply": wanted.max_tokens,
    }
    largest = max(sizes, key=lambda part: sizes[part])
    total = head.prompt_tokens + wanted.max_tokens
    allowed = limit - (total - sizes[largest])
    parts = ", ".join(f"{part} {tokens}" for part, tokens in sizes.items())
    left = f"at most {allowed} are left for it" if allowed > 0 else "nothing is left for it"
    return ContextLengthExceededError(
        f"What must be in the prompt does not fit: {largest} takes {sizes[largest]} tokens and {left} "
        f"({parts}: {total} of at most {limit}).",
        hint=_HINTS[largest],
    )
