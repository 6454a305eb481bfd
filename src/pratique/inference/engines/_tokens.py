"""Text → token ids, where the spelling of a special token in what people write stays plain text.

`escape` replaces each such spelling by a mark before the chat template sees it; `ids` tokenises the marked text, the
spellings as plain characters. So nobody can close their turn and open one of the system's, and what a template does
with a text (trim it, put it into JSON) it still does.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

__all__ = ["TextTokens"]

_Encode: TypeAlias = Callable[[str], list[int]]
_MARK: Final = "\ufdd0"  # a Unicode noncharacter; one that is written by somebody is escaped like a special token
_MARKED: Final = re.compile(f"{_MARK}([0-9]+){_MARK}")


class TextTokens:
    """Over one tokenizer of transformers; safe to use from several threads."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - transformers publishes no usable types here
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}
        # The longest first: one spelling may begin another.
        self._spellings = [_MARK, *sorted(special, key=lambda token: (-len(token), token))]
        self._numbers = {spelling: number for number, spelling in enumerate(self._spellings)}
        self._special = re.compile("|".join(map(re.escape, self._spellings)))
        self.begins_special = re.compile("|".join(map(re.escape, self._spellings[1:])) or "(?!)").match
        """Whether a text of a template begins with a special token: no token reaches across such a place."""
        self._encode, self._encode_plain = _encoders(tokenizer)

    def escape(self, text: str) -> str:
        """Return the text with marks for special tokens, and characters that are none replaced."""
        if not text.isascii():
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._special.sub(lambda found: f"{_MARK}{self._numbers[found[0]]}{_MARK}", text)

    def ids(self, text: str) -> list[int]:
        """Token ids of a template's text with escaped texts in it."""
        if _MARK not in text:
            return self._encode(text)
        ids: list[int] = []
        for number, part in enumerate(_MARKED.split(text)):
            # Odd parts are the numbers of spellings.
            ids += self._encode_plain(self._spellings[int(part)]) if number % 2 else self._encode(part)
        return ids

    def count(self, text: str) -> int:
        """Tokens of a bare text, special tokens spelled out."""
        return len(self.ids(self.escape(text)))


def _encoders(tokenizer: Any) -> tuple[_Encode, _Encode]:  # noqa: ANN401 - see above
    """Return one function for text with special tokens and one for text without.

    Whether special tokens count is a state of a tokenizer, not of a call: two threads that share one could read each
    other's. So each function has a tokenizer of its own, or a lock where there is no such thing (one in Python).
    """
    if not getattr(tokenizer, "is_fast", False):
        lock = threading.Lock()

        def encode(text: str, *, is_plain: bool) -> list[int]:
            with lock:
                ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=is_plain)["input_ids"]
            return ids

        return (lambda text: encode(text, is_plain=False)), (lambda text: encode(text, is_plain=True))
    backend = tokenizer.backend_tokenizer
    copies = [type(backend).from_str(backend.to_str()) for _ in range(2)]
    for copy, is_plain in zip(copies, (False, True), strict=True):
        copy.no_truncation()
        copy.no_padding()
        copy.encode_special_tokens = is_plain
    special, plain = copies
    return (lambda text: _ids(special, text)), (lambda text: _ids(plain, text))


def _ids(backend: Any, text: str) -> list[int]:  # noqa: ANN401 - see above
    # As a batch of one: `encode` holds the interpreter's lock, and a text of megabytes would stop the event loop for
    # seconds although it is tokenised in a thread. The ids are the same; offsets, which cost time, are left out.
    ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
    return ids
