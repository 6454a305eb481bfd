"""What of a model its tokenizer's folder is enough for: prompts and what they cost, without the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pratique.inference.engines._prompt import ChatPrompts
from pratique.inference.engines._tokens import TextTokens
from pratique.inference.engines.interface import ChatMessage, PromptCosts
from pratique.inference.errors import ArtifactError

__all__ = ["TokenizerOnly", "load_text_counter", "load_tokenizer"]


class TokenizerOnly:
    """Counts as the engine with this model counts; `Fitter` needs no more of one."""

    def __init__(self, prompts: ChatPrompts) -> None:
        self._prompts = prompts

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "", tools: str = "") -> list[int]:
        return self._prompts.encode(messages, prefix=prefix, tools=tools)

    def count(self, text: str) -> int:
        return self._prompts.count(text)

    @property
    def costs(self) -> PromptCosts:
        return self._prompts.costs


def load_tokenizer(folder: Path) -> TokenizerOnly:
    """Read the tokenizer and chat template of a model's folder. Imports transformers, which takes seconds.

    Raises:
        ArtifactError: there is none in it, or it cannot be read.
    """
    tokenizer = _loaded(folder)
    if not tokenizer.chat_template:
        raise ArtifactError(f"The tokenizer in {folder} has no chat template, so no prompt can be made with it.")
    return TokenizerOnly(ChatPrompts(tokenizer))


def load_text_counter(folder: Path) -> Callable[[str], int]:
    """Return what counts the tokens of bare texts, for which no chat template is needed. Else as `load_tokenizer`."""
    return TextTokens(_loaded(folder)).count


def _loaded(folder: Path) -> Any:  # noqa: ANN401 - transformers publishes no usable types here
    if not folder.is_dir():
        raise ArtifactError(f"There is no folder {folder} to take a tokenizer from.")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"The folder {folder} has no tokenizer that can be read: {error}") from error
