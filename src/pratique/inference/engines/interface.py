"""What every engine can do. The gate, the context budget and the warmup know engines by this interface alone."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from starlette.types import ASGIApp

__all__ = ["ChatMessage", "Engine", "FinishReason", "GenerateRequest", "Piece", "Report"]

FinishReason: TypeAlias = Literal["stop", "length"]

Report: TypeAlias = Callable[[str], None]
"""Called by a loading engine with the phase it enters, in words for people: "loading weights"."""


@dataclass(frozen=True)
class ChatMessage:
    """One message of a prompt, before the chat template."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What to generate. `prompt` are token ids with the chat template applied (`Engine.encode`)."""

    request_id: str
    prompt: Sequence[int]
    max_tokens: int
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    messages: tuple[ChatMessage, ...] = field(default=(), compare=False)
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one engine step added. The last piece has a finish reason; its text may be empty."""

    text: str
    completion_tokens: int
    """Tokens of the reply so far, this piece's included."""
    finish_reason: FinishReason | None = None


class Engine(Protocol):
    """An engine that holds one model."""

    kind: str
    model: str
    max_model_len: int
    """Tokens of prompt and reply together."""

    async def start(self, report: Report) -> None:
        """Load the model. Raises EngineLoadError; cancelling it ends every process it began."""

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "") -> list[int]:
        """Token ids of the messages in the real chat template, open for an assistant turn that begins with `prefix`."""

    def count(self, text: str) -> int:
        """Tokens of a bare text."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        """Stream the reply. Closing the generator aborts it in the engine. Raises EngineError."""

    async def reset_prefix_cache(self) -> None:
        """Forget every prompt seen so far."""

    def count_requests(self) -> None:
        """Let the engine's own metrics count from here on: what came before was warmup."""

    def check(self) -> None:
        """Raise EngineDeadError when the engine has stopped."""

    @property
    def openai_app(self) -> ASGIApp:
        """The OpenAI-compatible API, mounted at /v1."""

    def metrics(self) -> bytes:
        """The engine's own metrics, in Prometheus text format."""

    async def aclose(self) -> None:
        """End the engine and every process of it."""
