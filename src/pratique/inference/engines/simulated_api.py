"""The part of the OpenAI API that the simulated engine speaks: models and chat completions, whole and streamed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pratique.inference.engines.interface import ChatMessage, GenerateRequest

if TYPE_CHECKING:
    from pratique.inference.engines.interface import Engine

__all__ = ["openai_api"]


class _Message(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _ChatRequest(msgspec.Struct, frozen=True):
    model: str
    messages: Annotated[tuple[_Message, ...], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stream: bool = False


def openai_api(engine: Engine) -> Starlette:
    """Return the ASGI application, to be mounted so that its paths begin with /v1."""
    api = _Api(engine)
    return Starlette(
        routes=[
            Route("/v1/models", api.models, methods=["GET"]),
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
        ]
    )


class _Api:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def models(self, _: Request) -> Response:
        model = {"id": self._engine.model, "object": "model", "created": 0, "owned_by": "pratique"}
        return JSONResponse({"object": "list", "data": [model | {"max_model_len": self._engine.max_model_len}]})

    async def chat(self, request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await request.body(), type=_ChatRequest)
        except msgspec.DecodeError as error:
            return _error(400, "BadRequestError", str(error))
        if wanted.model != self._engine.model:
            text = f"The model '{wanted.model}' does not exist; known: {self._engine.model}."
            return _error(404, "NotFoundError", text)
        if wanted.stream:
            return StreamingResponse(self._chunks(wanted), media_type="text/event-stream")
        return JSONResponse(await self._whole(wanted))

    def _generation(self, wanted: _ChatRequest) -> GenerateRequest:
        messages = tuple(ChatMessage(message.role, message.content) for message in wanted.messages)
        return GenerateRequest(
            request_id=f"chatcmpl-{time.monotonic_ns():x}",
            prompt=self._engine.encode(messages),
            max_tokens=wanted.max_completion_tokens or wanted.max_tokens or self._engine.max_model_len,
            messages=messages,
        )

    async def _whole(self, wanted: _ChatRequest) -> dict[str, object]:
        request = self._generation(wanted)
        async with aclosing(self._engine.generate(request)) as stream:
            pieces = [piece async for piece in stream]
        message = {"role": "assistant", "content": "".join(piece.text for piece in pieces)}
        usage = {"prompt_tokens": len(request.prompt), "completion_tokens": pieces[-1].completion_tokens}
        return {
            **self._frame(request, "chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": pieces[-1].finish_reason}],
            "usage": usage | {"total_tokens": sum(usage.values())},
        }

    async def _chunks(self, wanted: _ChatRequest) -> AsyncGenerator[bytes, None]:
        request = self._generation(wanted)
        async with aclosing(self._engine.generate(request)) as stream:
            async for piece in stream:
                choice = {"index": 0, "delta": {"content": piece.text}, "finish_reason": piece.finish_reason}
                chunk = {**self._frame(request, "chat.completion.chunk"), "choices": [choice]}
                yield b"data: %s\n\n" % msgspec.json.encode(chunk)
        yield b"data: [DONE]\n\n"

    def _frame(self, request: GenerateRequest, kind: str) -> dict[str, object]:
        return {"id": request.request_id, "object": kind, "created": int(time.time()), "model": self._engine.model}


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)
