"""The part of the OpenAI API that the simulated engine speaks: models, chat completions and completions."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pratique.inference.engines.interface import ChatMessage, GenerateRequest, Piece
from pratique.inference.errors import EngineError

if TYPE_CHECKING:
    from pratique.inference.engines.interface import Engine

__all__ = ["openai_api"]

_Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=1)] | None
# msgspec checks texts only where they are read, and says so in Python's own way.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Part(msgspec.Struct, frozen=True):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[_Part, ...] | None = None
    tool_calls: tuple[dict[str, object], ...] = ()
    tool_call_id: str = ""


class _Request(msgspec.Struct, frozen=True):
    model: str
    max_tokens: _Tokens = None
    max_completion_tokens: _Tokens = None
    stream: bool = False


class _ChatRequest(_Request, frozen=True, kw_only=True):
    messages: Annotated[tuple[_Message, ...], msgspec.Meta(min_length=1)]
    tools: tuple[dict[str, object], ...] = ()


class _CompletionRequest(_Request, frozen=True, kw_only=True):
    prompt: str


Choice: TypeAlias = Callable[[str, bool], dict[str, object]]
"""Text (a part of it where the second argument is true) → what one answer carries."""


def openai_api(engine: Engine) -> Starlette:
    """Return the ASGI application; its paths begin with /v1."""
    api = _Api(engine)
    return Starlette(
        routes=[
            Route("/v1/models", api.models, methods=["GET"]),
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
            Route("/v1/completions", api.complete, methods=["POST"]),
        ]
    )


class _Api:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def models(self, _: Request) -> Response:
        model = {"object": "model", "created": 0, "owned_by": "pratique", "max_model_len": self._engine.max_model_len}
        names = (self._engine.model, *self._engine.adapters)
        return JSONResponse({"object": "list", "data": [{"id": name, **model} for name in names]})

    async def chat(self, request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await request.body(), type=_ChatRequest)
        except _UNREADABLE as error:
            return _error(400, "BadRequestError", str(error))
        messages = tuple(_plain(message) for message in wanted.messages)
        num_tool_tokens = self._engine.count(msgspec.json.encode(wanted.tools).decode()) if wanted.tools else 0
        room = self._engine.max_model_len - num_tool_tokens - len(self._engine.encode(messages))
        if room < (wanted.max_completion_tokens or wanted.max_tokens or 1):
            # As vLLM says it, so that a client's handling of it can be tried.
            text = f"This model's maximum context length is {self._engine.max_model_len} tokens; {room} are left."
            return _error(400, "BadRequestError", text)
        return await self._answer(wanted, messages, "chat.completion", _chat_choice)

    async def complete(self, request: Request) -> Response:
        try:
            wanted = msgspec.json.decode(await request.body(), type=_CompletionRequest)
        except _UNREADABLE as error:
            return _error(400, "BadRequestError", str(error))
        messages = (ChatMessage("user", wanted.prompt),)
        return await self._answer(wanted, messages, "text_completion", _text_choice)

    async def _answer(self, wanted: _Request, messages: tuple[ChatMessage, ...], kind: str, choice: Choice) -> Response:
        adapter = wanted.model if wanted.model in self._engine.adapters else None
        if adapter is None and wanted.model != self._engine.model:
            text = f"The model '{wanted.model}' does not exist; known: {self._engine.model}."
            return _error(404, "NotFoundError", text)
        request = GenerateRequest(
            request_id=f"cmpl-{time.monotonic_ns():x}",
            prompt=self._engine.encode(messages),
            max_tokens=wanted.max_completion_tokens or wanted.max_tokens or self._engine.max_model_len,
            adapter=adapter,
            messages=messages,
        )
        frame = {"id": request.request_id, "object": kind, "created": int(time.time()), "model": self._engine.model}
        if wanted.stream:
            return StreamingResponse(self._chunks(request, frame, choice), media_type="text/event-stream")
        try:
            return JSONResponse(await self._whole(request, frame, choice))
        except EngineError as error:
            return _error(500, "InternalServerError", error.message)

    async def _whole(self, request: GenerateRequest, frame: dict[str, object], choice: Choice) -> dict[str, object]:
        async with aclosing(self._engine.generate(request)) as stream:
            pieces = [piece async for piece in stream]
        text = "".join(piece.text for piece in pieces)
        num_tokens = pieces[-1].completion_tokens
        usage = {"prompt_tokens": len(request.prompt), "completion_tokens": num_tokens}
        return {
            **frame,
            "choices": [_finished(choice(text, False), pieces[-1])],
            "usage": usage | {"total_tokens": sum(usage.values())},
        }

    async def _chunks(
        self, request: GenerateRequest, frame: dict[str, object], choice: Choice
    ) -> AsyncGenerator[bytes, None]:
        if frame["object"] == "chat.completion":
            frame = frame | {"object": "chat.completion.chunk"}
        try:
            async with aclosing(self._engine.generate(request)) as stream:
                async for piece in stream:
                    chunk = {**frame, "choices": [_finished(choice(piece.text, True), piece)]}
                    yield b"data: %s\n\n" % msgspec.json.encode(chunk)
        except EngineError as error:
            yield b"data: %s\n\n" % msgspec.json.encode(_error_body(500, "InternalServerError", error.message))
        yield b"data: [DONE]\n\n"


def _plain(message: _Message) -> ChatMessage:
    content = message.content
    text = content if isinstance(content, str) else "\n".join(part.text for part in content or ())
    calls = {"tool_calls": message.tool_calls} if message.tool_calls else {}
    ids = {"tool_call_id": message.tool_call_id} if message.tool_call_id else {}
    extra = msgspec.json.encode(calls | ids).decode() if calls or ids else ""
    return ChatMessage("system" if message.role == "developer" else message.role, text, extra)


def _chat_choice(text: str, is_part: bool) -> dict[str, object]:
    return {"delta": {"content": text}} if is_part else {"message": {"role": "assistant", "content": text}}


def _text_choice(text: str, _: bool) -> dict[str, object]:
    return {"text": text}


def _finished(choice: dict[str, object], piece: Piece) -> dict[str, object]:
    return {"index": 0, **choice, "finish_reason": piece.finish_reason}


def _error_body(status: int, kind: str, message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse(_error_body(status, kind, message), status)
