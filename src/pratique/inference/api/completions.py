"""What a request of the OpenAI API would take that is not fitted, only measured: prompts, and several replies. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

__all__ = ["chat_replies", "completion_size"]

_DEFAULT_TOKENS: Final = 16
"""Of the reply, where the request does not say: OpenAI's, and vLLM's."""
_Count = Annotated[int, msgspec.Meta(ge=1)]


class _Completion(msgspec.Struct, frozen=True):
    prompt: str | list[str | int | list[int]]
    max_tokens: _Count = _DEFAULT_TOKENS
    n: _Count | None = 1
    prompt_embeds: object = None


class _Chat(msgspec.Struct, frozen=True):
    n: _Count | None = 1


def chat_replies(body: bytes) -> int | None:
    """Return how many replies a chat request asks for; None where that cannot be known."""
    try:
        return msgspec.json.decode(body, type=_Chat).n or 1
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def completion_size(body: bytes, *, count: Callable[[str], int]) -> int | None:
    """Return the tokens of all its prompts and replies together; None where that cannot be known."""
    try:
        asked = msgspec.json.decode(body, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if asked.prompt_embeds is not None:
        return None
    prompts = _prompts(asked.prompt)
    prompt_tokens = sum(count(prompt) if isinstance(prompt, str) else len(prompt) for prompt in prompts)
    return prompt_tokens + len(prompts) * (asked.n or 1) * asked.max_tokens


def _prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """Several prompts: texts or lists of token ids. A list of numbers is one prompt."""
    if isinstance(prompt, str):
        return [prompt]
    ids = [token for token in prompt if isinstance(token, int)]
    others = [one for one in prompt if not isinstance(one, int)]
    return [*others, ids] if ids else others
