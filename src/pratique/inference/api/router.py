"""Which model a request is for. With one model everything goes to it; with several the body's `model` decides.

A name is a model's or an adapter's. /invocations takes both apart (`model`, `adapter`); the OpenAI API knows only
`model`, so that there an adapter's name finds its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pratique.inference.api.http import ClientDisconnectedError, read_body, send_json
from pratique.inference.api.target import Target
from pratique.inference.errors import BodyTimeoutError, BodyTooLargeError, NotReadyError, UnknownModelError
from pratique.inference.settings import InferenceSettings

if TYPE_CHECKING:
    from pratique.inference.api.invocations import Invocations

__all__ = ["Router", "Served"]

_PROBE_MODELS: Final = "/v1/models"


class Served(Target, Protocol):
    """A model with its OpenAI application."""

    @property
    def openai_app(self) -> ASGIApp: ...


class _Named(msgspec.Struct):
    model: str | None = None


class _Listed(msgspec.Struct):
    data: list[msgspec.Raw] = []


class Router:
    """The ASGI application behind the gate."""

    invocations: Invocations

    def __init__(self, models: Sequence[Served], settings: InferenceSettings) -> None:
        """Serve `models`; the sequence may still grow until the first request."""
        self._models = models
        self._settings = settings

    def find(self, model: str | None, *, is_warmup: bool = False) -> tuple[Target, str | None]:
        """Return the model of that name, or the one with an adapter of that name and the adapter; None is the first.

        Raises:
            UnknownModelError: there is none. NotReadyError: it does not take traffic now.
        """
        if is_warmup:
            return self._find(model)
        served = self._find_ready(model)
        return served, None if model in {None, served.name} else model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/invocations":
            await self.invocations(scope, receive, send)
        elif len(self._models) == 1:
            await self._models[0].openai_app(scope, receive, send)
        elif scope["path"] == _PROBE_MODELS:
            await self._list_all(scope, send)
        else:
            await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(receive, limit_bytes=self._settings.max_body_bytes)
            served = self._find_ready(_model_of(body))
        except ClientDisconnectedError:
            return
        except UnknownModelError as error:
            await send_json(send, 404, _openai_error(error.message, "NotFoundError", error.code))
        except (BodyTooLargeError, BodyTimeoutError) as error:
            status = 413 if isinstance(error, BodyTooLargeError) else 408
            await send_json(send, status, _openai_error(error.message, "BadRequestError", error.code))
        except NotReadyError as error:
            body_of_error = _openai_error(error.message, "service_unavailable", error.code)
            await send_json(send, 503, body_of_error, {"retry-after": "1"})
        else:
            await served.openai_app(scope, _replay(body, receive), send)

    def _find_ready(self, name: str | None) -> Served:
        served, _ = self._find(name)
        if not served.is_ready:
            raise NotReadyError(
                f"The model '{served.name}' takes no request now.", hint="Try again in a moment, or another replica."
            )
        return served

    async def _list_all(self, scope: Scope, send: Send) -> None:
        entries: list[msgspec.Raw] = []
        for served in self._models:
            if served.is_ready:
                entries += await _entries(served.openai_app, scope)
        await send_json(send, 200, {"object": "list", "data": entries})

    def _find(self, name: str | None) -> tuple[Served, str | None]:
        if name is None:
            return self._models[0], None
        for served in self._models:
            if served.name == name:
                return served, None
        for served in self._models:
            if name in served.engine.adapters:
                return served, name
        known = [name for served in self._models for name in (served.name, *served.engine.adapters)]
        raise UnknownModelError(f"No model '{name}' is served here; there are: {', '.join(known)}.")


def _model_of(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # the first model's application says what is wrong with the body


async def _entries(app: ASGIApp, scope: Scope) -> list[msgspec.Raw]:
    """Ask one application for its models."""
    chunks: list[bytes] = []

    async def send(message: Message) -> None:
        chunks.append(message.get("body", b""))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({**scope, "method": "GET"}, receive, send)
    return msgspec.json.decode(b"".join(chunks), type=_Listed).data


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read to whoever reads it next."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def _openai_error(message: str, kind: str, code: str) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
