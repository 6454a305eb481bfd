"""An engine without a model: the same interface, lifecycle and API, at a speed and with failures of one's choice.

The reply is a function of the query alone: an echo of its first words and then counted words, so that a test sees
at once where a piece of a stream was lost or came twice. A token is a word with the space after it.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Sequence

from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.types import ASGIApp

from pratique.core.clock import Clock, SystemClock
from pratique.inference.engines.interface import ChatMessage, GenerateRequest, Piece, Report
from pratique.inference.engines.simulated_api import openai_api
from pratique.inference.errors import EngineDeadError, EngineError, EngineLoadError
from pratique.inference.settings import SimulatedSettings

__all__ = ["SimulatedEngine", "simulated_reply"]

_TEMPLATE_TOKENS = 4
_ECHOED_WORDS = 8


def simulated_reply(query: str, *, num_tokens: int) -> str:
    """Return the reply to a query: `num_tokens` words, each followed by a space but the last."""
    words = ["You", "said:", *query.split()[:_ECHOED_WORDS], "I", "count:"]
    words += [f"w{number}" for number in range(1, max(num_tokens - len(words), 0) + 1)]
    return " ".join(words[:num_tokens])


class SimulatedEngine:
    """Implements `Engine` on a clock."""

    kind = "simulated"

    def __init__(
        self, settings: SimulatedSettings, *, model: str, max_model_len: int, clock: Clock | None = None
    ) -> None:
        self.model = model
        self.max_model_len = max_model_len
        self._settings = settings
        self._clock = clock or SystemClock()
        self._is_running = False
        self._is_counting = False
        self._num_generated = 0
        self._registry = CollectorRegistry()
        self._generated = Counter(
            "simulated_generation_tokens", "Tokens that the simulated engine has generated.", registry=self._registry
        )
        self._openai_app = openai_api(self)

    async def start(self, report: Report) -> None:
        report("loading weights")
        await self._clock.sleep(self._settings.load_seconds)
        if self._settings.fail_load:
            raise EngineLoadError("The simulated engine was told to fail its load (fail_load).")
        self._is_running = True

    def encode(self, messages: Sequence[ChatMessage], *, prefix: str = "") -> list[int]:
        ids: list[int] = []
        for message in messages:
            ids += [0] * _TEMPLATE_TOKENS + _tokens(message.content)
        return [*ids, *[0] * _TEMPLATE_TOKENS, *_tokens(prefix)]

    def count(self, text: str) -> int:
        return len(_tokens(text))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        self.check()
        query = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        whole = simulated_reply(query, num_tokens=self._settings.reply_tokens)
        pieces = _pieces(_until_stop(whole.removeprefix(request.prefix), request.stop))
        said = pieces[: request.max_tokens]
        await self._clock.sleep(self._settings.first_token_seconds)
        for number, text in enumerate(said, start=1):
            self.check()
            if self._settings.fail_after_tokens is not None and number > self._settings.fail_after_tokens:
                raise EngineError("The simulated engine was told to fail here (fail_after_tokens).")
            self._count()
            yield Piece(text=text, completion_tokens=number)
            await self._clock.sleep(self._settings.token_seconds)
        finish = "length" if len(said) < len(pieces) else "stop"
        yield Piece(text="", completion_tokens=len(said), finish_reason="length" if finish == "length" else "stop")

    def _count(self) -> None:
        if not self._is_counting:
            return
        self._generated.inc()
        self._num_generated += 1
        if self._settings.crash_after_tokens is not None and self._num_generated > self._settings.crash_after_tokens:
            self.die()
            raise EngineDeadError("The simulated engine was told to die here (crash_after_tokens).")

    async def reset_prefix_cache(self) -> None:
        await asyncio.sleep(0)

    def count_requests(self) -> None:
        self._is_counting = True

    def check(self) -> None:
        if not self._is_running:
            raise EngineDeadError("The simulated engine is not running.")

    def die(self) -> None:
        """Stop as an engine does that was killed: what runs fails, and nothing new begins."""
        self._is_running = False

    @property
    def openai_app(self) -> ASGIApp:
        return self._openai_app

    def metrics(self) -> bytes:
        return generate_latest(self._registry)

    async def aclose(self) -> None:
        self._is_running = False


def _tokens(text: str) -> list[int]:
    return [zlib.crc32(word.encode("utf-8", "replace")) for word in text.split()]


def _until_stop(text: str, stops: Sequence[str]) -> str:
    found = [text.index(stop) for stop in stops if stop in text]
    return text[: min(found)] if found else text


def _pieces(text: str) -> list[str]:
    """Split into words, each with the space behind it, so that joining them gives the text again."""
    return re.findall(r" ?[^ ]+ ?", text)
