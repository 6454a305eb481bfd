"""Messages → token ids by the model's own chat template.

What people write stays text: where it holds the spelling of a special token (`<|im_end|>`), it is tokenised apart from
the template and as plain characters, so that nobody can close their turn and open one of the system's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from pratique.inference.engines.interface import ChatMessage

__all__ = ["ChatPrompts"]

_MARK: Final = "\ufdd0"  # a Unicode noncharacter: no text has it


class ChatPrompts:
    """Encodes for one tokenizer of transformers; safe to use from several threads."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers publishes no usable types here
        self._tokenizer = tokenizer
        self._special = re.compile("|".join(re.escape(token) for token in sorted(tokenizer.all_special_tokens)))

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "") -> list[int]:
        """Return the ids, open for an assistant turn that begins with `prefix`."""
        contents = [message.content for message in messages]
        if self._special.search("\n".join([*contents, prefix])) is None:
            return self._ids(self._render(messages, contents) + prefix)
        marks = [f"{_MARK}{number}{_MARK}" for number in range(len(contents))]
        ids: list[int] = []
        for number, part in enumerate(re.split(f"{_MARK}([0-9]+){_MARK}", self._render(messages, marks))):
            # Odd parts are the numbers of the contents, even ones the template's own text.
            ids += self._plain_ids(contents[int(part)]) if number % 2 else self._ids(part)
        return ids + self._plain_ids(prefix)

    def count(self, text: str) -> int:
        """Tokens of a bare text."""
        return len(self._plain_ids(text))

    def _render(self, messages: Sequence[ChatMessage], contents: Sequence[str]) -> str:
        chat = [{"role": message.role, "content": content} for message, content in zip(messages, contents, strict=True)]
        text: str = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return text

    def _ids(self, text: str) -> list[int]:
        # The template already wrote the special tokens.
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _plain_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids
