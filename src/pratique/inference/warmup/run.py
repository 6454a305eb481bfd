"""Send every shape through the server's own application, in this process but over the whole path.

The requests enter where the gate hands over, so that routing, parsing, budget, engine and streaming are warm; they skip
only the gate, which is still closed, and the counters behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from starlette.types import ASGIApp, Message

from pratique.inference.engines.interface import Engine
from pratique.inference.errors import WarmupError, WarmupTimeoutError
from pratique.inference.warmup.shapes import Shape, text_of

__all__ = ["warm_up"]


async def warm_up(
    engine: Engine, app: ASGIApp, *, shapes: Sequence[Shape], timeout_seconds: float, started: Callable[[Shape], None]
) -> None:
    """Send all shapes, one after the other, then forget what they left in the prefix cache.

    Raises:
        WarmupError: a shape failed. WarmupTimeoutError: the time is over; the message says which shapes were done.
    """
    done: list[str] = []
    try:
        async with asyncio.timeout(timeout_seconds):
            for shape in shapes:
                started(shape)
                await _send(engine, app, shape)
                done.append(shape.name)
            await engine.reset_prefix_cache()
    except TimeoutError as error:
        raise WarmupTimeoutError(
            f"Warmup was not done after {timeout_seconds:.0f} s; done: {', '.join(done) or 'none'} of "
            f"{', '.join(shape.name for shape in shapes)}.",
            hint="Raise warmup_timeout_seconds, or look for what else is using this machine's processors.",
        ) from error


async def _send(engine: Engine, app: ASGIApp, shape: Shape) -> None:
    body = msgspec.json.encode(
        {
            "query": await asyncio.to_thread(text_of, shape, engine.count),
            "max_tokens": shape.output_tokens,
            "stream": True,
            "request_id": f"warmup-{shape.name}",
        }
    )
    status, answer = await _call(app, body)
    if status != 200 or b"event: end\n" not in answer:  # noqa: PLR2004 - HTTP OK
        raise WarmupError(
            f"The warmup shape '{shape.name}' failed with {status}: {answer[-500:].decode(errors='replace')}"
        )


async def _call(app: ASGIApp, body: bytes) -> tuple[int, bytes]:
    """POST to /invocations in process; return status and body."""
    status = 0
    chunks: list[bytes] = []
    requests = iter([{"type": "http.request", "body": body, "more_body": False}])
    forever = asyncio.Event()

    async def receive() -> Message:
        request = next(requests, None)
        if request is None:
            await forever.wait()
            return {"type": "http.disconnect"}
        return request

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        chunks.append(message.get("body", b""))

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
    await app(scope, receive, send)
    return status, b"".join(chunks)
