"""Send every shape through the server's own application, in this process but over the whole path.

The requests enter where the gate hands over, so that routing, parsing, budget, engine and streaming are warm; they skip
only the gate, which is still closed, and the counters behind it.

A shape counts as warm when the reply shows that the engine did the shape's work: the prompt had exactly the tokens it
should and nothing was left out of it, and tokens came back. A model may end its reply early, at its own end token: the
prompt was read all the same, and that it did is said in the summary. After every shape the prefix cache is reset, so
that neither the next shape (whose template begins alike) nor a customer finds anything of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Message

from pratique.core.clock import Clock, SystemClock
from pratique.inference.engines.interface import Engine
from pratique.inference.errors import WarmupError, WarmupTimeoutError
from pratique.inference.warmup.shapes import Prompt, Shape, prompt_of

__all__ = ["ShapeResult", "WarmupSummary", "warm_up"]

_HTTP_OK: Final = 200
_TOO_LONG: Final = "context_length_exceeded"
_MAX_ANSWER_CHARACTERS: Final = 500


@dataclass(frozen=True, kw_only=True)
class ShapeResult:
    """How one shape went."""

    name: str
    adapter: str | None
    prompt_tokens: int
    """Of the whole prompt, as the server counted it."""
    completion_tokens: int
    first_token_seconds: float
    total_seconds: float
    ended_early: bool
    """The model said its end token before it had generated all the tokens that were asked for."""


@dataclass(frozen=True, kw_only=True)
class WarmupSummary:
    """How a warmup went, in the order of its shapes."""

    shapes: tuple[ShapeResult, ...]
    total_seconds: float

    def to_status(self) -> dict[str, object]:
        """Return it for /status."""
        return {"total_seconds": self.total_seconds, "shapes": [asdict(shape) for shape in self.shapes]}


async def warm_up(
    engine: Engine,
    app: ASGIApp,
    *,
    shapes: Sequence[Shape],
    timeout_seconds: float,
    started: Callable[[Shape], None],
    clock: Clock | None = None,
) -> WarmupSummary:
    """Send all shapes, one after the other, and leave nothing of them in the prefix cache.

    Cancelling it ends the request that runs. `clock` measures; the deadline is the event loop's.

    Raises:
        WarmupError: a shape failed. WarmupTimeoutError: the time is over; the message says which shapes were done.
    """
    clock = clock or SystemClock()
    began = clock.monotonic()
    results: list[ShapeResult] = []
    deadline = asyncio.timeout(timeout_seconds)
    try:
        async with deadline:
            for shape in shapes:
                started(shape)
                prompt = await asyncio.to_thread(prompt_of, shape, engine)
                results.append(await _send(engine, app, shape, prompt, clock))
                await engine.reset_prefix_cache()
    except TimeoutError as error:
        if not deadline.expired():  # the engine's own, of one step
            raise WarmupError("A step of the engine timed out during the warmup, before its own deadline.") from error
        raise _too_late(shapes, len(results), timeout_seconds) from error
    return WarmupSummary(shapes=tuple(results), total_seconds=round(clock.monotonic() - began, 4))


async def _send(engine: Engine, app: ASGIApp, shape: Shape, prompt: Prompt, clock: Clock) -> ShapeResult:
    body: dict[str, object] = {
        "query": prompt.text,
        "model": engine.model,
        "max_tokens": shape.output_tokens,
        "stream": True,
        "request_id": f"warmup-{shape.name}",
    }
    if shape.adapter is not None:
        body["adapter"] = shape.adapter
    reply = _Reply(clock)
    try:
        await _post(app, msgspec.json.encode(body), reply)
    except Exception as error:  # whatever the application did not foresee: the shape that met it must be known
        raise WarmupError(f"The warmup shape '{shape.name}' failed: {type(error).__name__}: {error}") from error
    return _verified(shape, prompt, reply)


def _verified(shape: Shape, prompt: Prompt, reply: _Reply) -> ShapeResult:
    """Return how it went, or raise what shows that the shape's work was not done."""
    start, end = reply.event("start"), reply.event("end")
    if reply.status != _HTTP_OK or start is None or end is None:
        raise WarmupError(
            f"The warmup shape '{shape.name}' failed with {reply.status}: {reply.text[-_MAX_ANSWER_CHARACTERS:]}",
            hint=f"Shorten the shape: the chat template has {prompt.whole_tokens - prompt.text_tokens} tokens on top."
            if _TOO_LONG in reply.text
            else None,
        )
    read, said = start.get("prompt_tokens"), end.get("completion_tokens", 0)
    if read != prompt.whole_tokens or start.get("was_truncated") or start.get("turns_dropped"):
        raise WarmupError(
            f"The warmup shape '{shape.name}' was not sent as it is: its prompt has {prompt.whole_tokens} tokens with "
            f"the chat template, and the server read {read} (truncated: {bool(start.get('was_truncated'))})."
        )
    ended_early = end.get("finish_reason") == "stop" and said < shape.output_tokens
    if said < 1 or (said != shape.output_tokens and not ended_early):
        raise WarmupError(
            f"The warmup shape '{shape.name}' got {said} tokens of {shape.output_tokens}, and the finish reason was "
            f"'{end.get('finish_reason')}'."
        )
    return ShapeResult(
        name=shape.name,
        adapter=shape.adapter,
        prompt_tokens=prompt.whole_tokens,
        completion_tokens=said,
        first_token_seconds=round(reply.first_token_seconds(), 4),
        total_seconds=round(reply.total_seconds(), 4),
        ended_early=ended_early,
    )


def _too_late(shapes: Sequence[Shape], num_done: int, timeout_seconds: float) -> WarmupTimeoutError:
    done = ", ".join(shape.name for shape in shapes[:num_done]) or "none"
    pending = ", ".join(shape.name for shape in shapes[num_done:]) or "none"
    return WarmupTimeoutError(
        f"The warmup was not done after {timeout_seconds:g} s. Shapes done: {done}; pending: {pending}.",
        hint="Raise warmup_timeout_seconds, or look for what else is using this machine's processors.",
    )


@dataclass
class _Reply:
    """A streamed answer and when its parts came."""

    clock: Clock
    status: int = 0
    body: bytearray = field(default_factory=bytearray)
    first_token_at: float | None = None
    began_at: float = 0.0
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self.began_at = self.clock.monotonic()

    async def take(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        chunk = message.get("body", b"")
        self.ended_at = self.clock.monotonic()
        if self.first_token_at is None and chunk.startswith((b"event: token\n", b"event: end\n")):
            self.first_token_at = self.ended_at
        self.body += chunk

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def event(self, name: str) -> dict[str, Any] | None:
        """Return the data of the first event of that name."""
        _, _, rest = self.text.partition(f"event: {name}\ndata: ")
        try:
            data = msgspec.json.decode(rest.partition("\n")[0])
        except msgspec.DecodeError:
            return None
        return data if isinstance(data, dict) else None

    def first_token_seconds(self) -> float:
        return (self.first_token_at or self.ended_at) - self.began_at

    def total_seconds(self) -> float:
        return self.ended_at - self.began_at


async def _post(app: ASGIApp, body: bytes, reply: _Reply) -> None:
    """POST to /invocations in process."""
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    stays: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        return requests.pop() if requests else await stays

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/invocations",
        "raw_path": b"/invocations",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await app(scope, receive, reply.take)
