"""An engine without a model: the same interface, lifecycle and API, at a speed and with failures of one's choice.

The reply is a function of the query alone: an echo of its first words and then counted words, so that a test sees
at once where a piece of a stream was lost or came twice. A token is a word with the space after it.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.types import ASGIApp

from pratique.core.clock import Clock, SystemClock
from pratique.inference.engines.interface import (
    Adapter,
    ChatMessage,
    EnginePhase,
    GenerateRequest,
    Piece,
    Pulse,
    Report,
)
from pratique.inference.engines.simulated_api import openai_api
from pratique.inference.errors import (
    DeathCause,
    EngineDeadError,
    EngineError,
    EngineFlushedError,
    EngineLoadError,
    UnknownModelError,
)
from pratique.inference.settings import SimulatedSettings

__all__ = ["SimulatedCosts", "SimulatedEngine", "simulated_reply"]

_TEMPLATE_TOKENS = 4
_ECHOED_WORDS = 8
_HANG_CHECK_SECONDS = 0.02
_ITERATION_CPU_SECONDS = 0.01


def simulated_reply(query: str, *, num_tokens: int) -> str:
    """Return the reply to a query: `num_tokens` words, each followed by a space but the last."""
    words = ["You", "said:", *query.split()[:_ECHOED_WORDS], "I", "count:"]
    words += [f"w{number}" for number in range(1, max(num_tokens - len(words), 0) + 1)]
    return " ".join(words[:num_tokens])


class SimulatedCosts:
    """Implements `PromptCosts`: a message is its words and the same four tokens of a template, wherever it stands."""

    is_exact = True
    allows_system_inside = True

    def message(self, message: ChatMessage) -> int:
        return _TEMPLATE_TOKENS + len(_tokens(message.content)) + len(_tokens(message.extra))

    def frame(self, *, has_system: bool, prefix: str = "") -> int:
        del has_system
        return _TEMPLATE_TOKENS + len(_tokens(prefix))


class SimulatedEngine:
    """Implements `Engine` on a clock."""

    kind = "simulated"

    def __init__(
        self,
        settings: SimulatedSettings,
        *,
        model: str,
        max_model_len: int,
        adapters: Sequence[Adapter] = (),
        clock: Clock | None = None,
    ) -> None:
        self.model = model
        self.max_model_len = max_model_len
        self.costs = SimulatedCosts()
        self.num_starts = 0
        self._settings = settings
        self._clock = clock or SystemClock()
        self._death: DeathCause | None = DeathCause.CRASHED
        self._last_death = DeathCause.CRASHED
        self._is_counting = False
        self._is_hanging = False
        self._flushes = 0
        self._num_generated = 0
        self._adapters = {adapter.name: adapter for adapter in adapters}
        self._pulse = Pulse(
            num_iterations=0,
            num_unfinished=0,
            num_running=0,
            num_waiting=0,
            kv_usage=0.0,
            num_preemptions=0,
            cpu_seconds=0.0,
        )
        self._registry = CollectorRegistry()
        self._generated = Counter(
            "simulated_generation_tokens", "Tokens that the simulated engine has generated.", registry=self._registry
        )
        self._openai_app = openai_api(self)

    async def start(self, report: Report) -> None:
        report(EnginePhase.WEIGHTS, "loading weights")
        await self._clock.sleep(self._settings.load_seconds)
        if self._settings.fail_load:
            raise EngineLoadError("The simulated engine was told to fail its load (fail_load).")
        self.num_starts += 1
        self._death = None

    async def restart(self, report: Report) -> None:
        self.die(self._death or DeathCause.KILLED)
        # What ran learns of the death before there is a new life that it could take for its own.
        await asyncio.sleep(0)
        self._num_generated = 0
        self._is_counting = self._is_hanging = False
        self._observe(num_iterations=0, num_preemptions=0, kv_usage=0.0)
        await self.start(report)

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "", tools: str = "") -> list[int]:
        ids: list[int] = _tokens(tools)
        for message in messages:
            ids += [0] * _TEMPLATE_TOKENS + _tokens(message.content) + _tokens(message.extra)
        return [*ids, *[0] * _TEMPLATE_TOKENS, *_tokens(prefix)]

    def count(self, text: str) -> int:
        return len(_tokens(text))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        life = (self.num_starts, self._flushes)
        self._check_life(life)
        if request.adapter is not None and request.adapter not in self._adapters:
            raise _unknown_adapter(request.adapter, self.adapters)
        self._observe(num_unfinished=self._pulse.num_unfinished + 1, num_running=self._pulse.num_running + 1)
        try:
            async for piece in self._speak(request, life):
                yield piece
        finally:
            self._observe(num_unfinished=self._pulse.num_unfinished - 1, num_running=self._pulse.num_running - 1)

    async def _speak(self, request: GenerateRequest, life: tuple[int, int]) -> AsyncGenerator[Piece, None]:
        query = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        whole = simulated_reply(query, num_tokens=self._settings.reply_tokens)
        if request.adapter is not None:
            whole = f"{request.adapter}: {whole}"
        pieces = _pieces(_until_stop(whole.removeprefix(request.prefix), request.stop))
        said = pieces[: request.max_tokens]
        await self._step(self._settings.first_token_seconds, life)
        for number, text in enumerate(said, start=1):
            if self._settings.fail_after_tokens is not None and number > self._settings.fail_after_tokens:
                raise EngineError("The simulated engine was told to fail here (fail_after_tokens).")
            self._count()
            yield Piece(text=text, completion_tokens=number)
            await self._step(self._settings.token_seconds, life)
        finish = "length" if len(said) < len(pieces) else "stop"
        yield Piece(text="", completion_tokens=len(said), finish_reason="length" if finish == "length" else "stop")

    async def _step(self, seconds: float, life: tuple[int, int]) -> None:
        """Take the time of one iteration; a death or a flush in it ends the request."""
        await self._clock.sleep(seconds)
        while self._is_hanging:
            self._check_life(life)
            await self._clock.sleep(_HANG_CHECK_SECONDS)
        self._check_life(life)
        self._observe(
            num_iterations=self._pulse.num_iterations + 1,
            cpu_seconds=self._pulse.cpu_seconds + seconds + _ITERATION_CPU_SECONDS,
        )

    def _count(self) -> None:
        if not self._is_counting:
            return
        self._generated.inc()
        self._num_generated += 1
        if self._settings.crash_after_tokens is not None and self._num_generated > self._settings.crash_after_tokens:
            self.die(DeathCause.CRASHED)
            raise EngineDeadError("The simulated engine was told to die here (crash_after_tokens).")

    async def flush(self) -> None:
        self.check()
        self._flushes += 1
        self._observe(kv_usage=0.0)
        await asyncio.sleep(0)

    async def reset_prefix_cache(self) -> None:
        await asyncio.sleep(0)

    async def load_adapter(self, adapter: Adapter) -> None:
        await asyncio.sleep(0)
        self._adapters[adapter.name] = adapter

    async def unload_adapter(self, name: str) -> None:
        await asyncio.sleep(0)
        if name not in self._adapters:
            raise _unknown_adapter(name, self.adapters)
        del self._adapters[name]

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(self._adapters)

    def count_requests(self) -> None:
        self._is_counting = True

    def check(self) -> None:
        if self._death is not None:
            raise EngineDeadError("The simulated engine is not running.", cause=self._death)

    def _check_life(self, life: tuple[int, int]) -> None:
        """Raise what ended the life of the engine that a request began in."""
        self.check()
        if life[0] != self.num_starts:
            raise EngineDeadError("The simulated engine died while it was generating.", cause=self._last_death)
        if life[1] != self._flushes:
            raise EngineFlushedError("The engine dropped this request to get its memory back.")

    def die(self, cause: DeathCause = DeathCause.KILLED) -> None:
        """Stop as an engine does that was killed: what runs fails, and nothing new begins."""
        self._death = self._last_death = cause

    def hang(self) -> None:
        """Make no iteration any more, and use no processor."""
        self._is_hanging = True

    def rehearse(self, *, kv_usage: float, num_preemptions: int, num_waiting: int) -> None:
        """Pretend that the KV blocks are short."""
        self._observe(kv_usage=kv_usage, num_preemptions=num_preemptions, num_waiting=num_waiting)

    def pulse(self) -> Pulse:
        return self._pulse

    def _observe(self, **changes: float) -> None:
        self._pulse = replace(self._pulse, **changes)  # type: ignore[arg-type]  # counts are given as integers

    @property
    def openai_app(self) -> ASGIApp:
        return self._openai_app

    def metrics(self) -> bytes:
        return generate_latest(self._registry)

    async def aclose(self) -> None:
        self.die()


def _unknown_adapter(name: str, known: Sequence[str]) -> UnknownModelError:
    return UnknownModelError(f"No adapter '{name}' is loaded; there are: {', '.join(known) or 'none'}.")


def _tokens(text: str) -> list[int]:
    return [zlib.crc32(word.encode("utf-8", "replace")) for word in text.split()]


def _until_stop(text: str, stops: Sequence[str]) -> str:
    found = [text.index(stop) for stop in stops if stop in text]
    return text[: min(found)] if found else text


def _pieces(text: str) -> list[str]:
    """Split into words, each with the space behind it, so that joining them gives the text again."""
    return re.findall(r" ?[^ ]+ ?", text)
