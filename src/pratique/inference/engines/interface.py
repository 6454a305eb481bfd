"""What every engine can do. The gate, the context budget, the warmup and the containment know engines by this alone."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from starlette.types import ASGIApp

__all__ = [
    "Adapter",
    "ChatMessage",
    "Engine",
    "EnginePhase",
    "FinishReason",
    "GenerateRequest",
    "Guard",
    "Piece",
    "PromptCosts",
    "Pulse",
    "Report",
    "Role",
    "Unguarded",
]

FinishReason: TypeAlias = Literal["stop", "length"]
Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class EnginePhase(enum.Enum):
    """The steps of an engine's start, in their order; not every engine has every one."""

    IMPORTS = "imports"
    PROCESS = "process"
    WEIGHTS = "weights"
    KV_CACHE = "kv_cache"
    COMPILE = "compile"
    API = "api"
    ADAPTERS = "adapters"


class Report(Protocol):
    """Called by a loading engine when it enters a phase, and as it gets on in it."""

    def __call__(self, phase: EnginePhase, detail: str, share: float | None = None) -> None:
        """`detail` is for people ("loading weights"); `share` is what the phase counts itself, 0…1."""


class Guard(Protocol):
    """Stands between an engine and the files that it reads. Both block, and belong into a thread."""

    def wait_verified(self) -> None:
        """Return once the model's files may be read. Raises where they may not."""

    def admit(self, folder: Path) -> Callable[[], None]:
        """Return once an adapter's files may be read; what is returned makes sure, after that, that they were the same.

        Raises ArtifactError, as that does.
        """


class Unguarded:
    """Every file may be read: the `Guard` of a server that verifies beside the load."""

    def wait_verified(self) -> None:
        """Do nothing."""

    def admit(self, folder: Path) -> Callable[[], None]:
        """Do nothing."""
        del folder
        return lambda: None


@dataclass(frozen=True)
class ChatMessage:
    """One message of a prompt, before the chat template."""

    role: Role
    content: str
    extra: str = ""
    """The other fields that the template may read (tool_calls, tool_call_id, name), as one JSON object; "" for none."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A LoRA adapter: the name that requests give, and its folder (PEFT layout, safetensors)."""

    name: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """What to generate. `prompt` are token ids with the chat template applied (`Engine.encode`)."""

    request_id: str
    prompt: Sequence[int]
    max_tokens: int
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    adapter: str | None = None
    """The name of a loaded adapter; None is the base model."""
    messages: tuple[ChatMessage, ...] = field(default=(), compare=False)
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What one engine step added. The last piece has a finish reason; its text may be empty."""

    text: str
    completion_tokens: int
    """Tokens of the reply so far, this piece's included."""
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What is known of an engine's loop. Counts begin again with every start of the engine."""

    num_iterations: int
    num_unfinished: int
    """Requests that were handed to the engine and have not ended: known here, also when it says nothing any more."""
    num_running: int
    num_waiting: int
    kv_usage: float
    """Share of the KV blocks in use, 0…1."""
    num_preemptions: int
    cpu_seconds: float
    """Processor time of the engine's process: a busy engine uses some between two iterations, a hung one none."""


class PromptCosts(Protocol):
    """What messages cost in this model's chat template, one by one, so that a budget is a matter of adding up."""

    is_exact: bool
    """Whether frame and messages together are always the length of the whole prompt. Otherwise the sum is near it."""
    allows_system_inside: bool
    """Whether the template takes a system message after other messages."""

    def message(self, message: ChatMessage) -> int:
        """Tokens that a message adds to a prompt, the template's own around it included."""

    def frame(self, *, has_system: bool, prefix: str = "") -> int:
        """Tokens of a prompt without its messages.

        That is its beginning (a system prompt of the template's own where the messages have none) and the opened reply
        with the `prefix`.
        """


class Engine(Protocol):
    """An engine that holds one model."""

    kind: str
    model: str
    max_model_len: int
    """Tokens of prompt and reply together."""

    async def start(self, report: Report) -> None:
        """Load the model and its adapters. Raises EngineLoadError; cancelling it ends every process it began."""

    async def restart(self, report: Report) -> None:
        """End what is left of the engine, at once, and start it anew in this process, adapters included.

        `openai_app` stays the same object. What still ran raises EngineDeadError. Raises EngineLoadError.
        """

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "", tools: str = "") -> list[int]:
        """Token ids of the messages in the real chat template, open for an assistant turn that begins with `prefix`.

        `tools` is what an OpenAI request has under that name, as JSON.
        """

    def count(self, text: str) -> int:
        """Tokens of a bare text."""

    @property
    def costs(self) -> PromptCosts:
        """What single messages cost in the chat template; safe to use from several threads."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        """Stream the reply. Closing the generator aborts it in the engine.

        Raises EngineDeadError (the engine ended), EngineFlushedError (`flush` ended it), or another EngineError.
        """

    async def flush(self) -> None:
        """Abort everything that runs or waits, and forget every KV block. New requests are taken afterwards."""

    async def reset_prefix_cache(self) -> None:
        """Forget every prompt seen so far."""

    async def load_adapter(self, adapter: Adapter) -> None:
        """Make an adapter usable under its name, here and in `openai_app`; one of that name is replaced.

        Raises EngineError where it does not fit the model.
        """

    async def unload_adapter(self, name: str) -> None:
        """Forget an adapter. Raises EngineError for a name that is not loaded."""

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the loaded adapters; they survive `restart`."""

    def count_requests(self) -> None:
        """Let the engine's own metrics count from here on: what came before was warmup."""

    def check(self) -> None:
        """Raise EngineDeadError, with its cause, when the engine has stopped."""

    def pulse(self) -> Pulse:
        """Return what is known of the engine's loop. Does not ask the engine, so that a hung one does not hold it."""

    @property
    def openai_app(self) -> ASGIApp:
        """The OpenAI-compatible API, mounted at /v1."""

    def metrics(self) -> bytes:
        """The engine's own metrics, in Prometheus text format."""

    async def aclose(self) -> None:
        """End the engine and every process of it."""
