"""The client object: one session with one chat service."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final, Self

from pratique.client import _wire as wire
from pratique.client._eventstream import SseTransport
from pratique.client._http import Http, parse_url
from pratique.client._link import TransportChoice, TransportKind
from pratique.client._stream import ReplyStream, StreamContext
from pratique.client._websocket import WebSocketTransport
from pratique.client.errors import ClientError, ConnectionLostError, ModelUnavailableError
from pratique.client.settings import ClientSettings, verify_settings
from pratique.core.clock import Clock, SystemClock
from pratique.core.ids import IdSource, RandomIds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from pratique.client._reply import Reply

__all__ = ["ChatClient"]

_POLL_SECONDS: Final = 0.25


class ChatClient:
    """Talks to one chat service, as one principal. Use as `async with ChatClient(url) as chat:`.

    With an API key the conversations belong to the key's principal. Without one the service hands out a session
    cookie, and the conversations belong to whoever holds it: this object, for as long as it lives.

    Several replies may be followed at the same time. Not for use from several event loops.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        settings: ClientSettings | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        self._base = parse_url(url)
        self._api_key = api_key
        self._settings = verify_settings(settings or ClientSettings())
        self._clock = clock or SystemClock()
        self._ids = ids or RandomIds(self._clock)
        self._random = random or secrets.SystemRandom().random
        self._choice = TransportChoice(self._settings)
        self._http: Http | None = None
        self._session: wire.Session | None = None
        self._session_lock = asyncio.Lock()
        self._streams: set[ReplyStream] = set()

    async def __aenter__(self) -> Self:
        self._http = Http(
            self._base, settings=self._settings, clock=self._clock, random=self._random, api_key=self._api_key
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for stream in list(self._streams):
            await stream.aclose()
        http, self._http = self._opened(), None
        await http.close()

    @property
    def transport(self) -> TransportKind:
        """What the next reply's events come over."""
        return self._choice.kind

    def send(
        self,
        text: str,
        *,
        conversation_id: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        model: str | None = None,
        client_message_id: str | None = None,
    ) -> ReplyStream:
        """Say something and follow the reply. Nothing is sent before the first event is asked for.

        Without a conversation a new one is begun. A message that was lost on its way is sent again under the same
        `client_message_id`, so it is stored and answered once; give one to keep that promise over restarts. `model`
        names a pool or an adapter of the service; without one its policy chooses.
        """
        return self._follow(
            wire.Message(
                client_message_id=client_message_id or self._ids.new("msg"),
                text=text,
                conversation_id=conversation_id,
                max_tokens=max_tokens,
                temperature=temperature,
                model=model,
            )
        )

    async def ask(
        self,
        text: str,
        *,
        conversation_id: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        model: str | None = None,
    ) -> Reply:
        """Say something and wait for the whole reply.

        Raises:
            ClientError: the reply failed; `error.reply` holds what had been said.
        """
        stream = self.send(
            text, conversation_id=conversation_id, max_tokens=max_tokens, temperature=temperature, model=model
        )
        async with stream:
            return await stream.wait()

    def retry(self, conversation_id: str) -> ReplyStream:
        """Have the last user turn answered again, where its reply failed, was cut short, or was cancelled."""
        return self._follow(wire.Retry(conversation_id=conversation_id, client_message_id=self._ids.new("msg")))

    def resume(self, conversation_id: str, *, generation_id: str | None = None, last_seq: int = 0) -> ReplyStream:
        """Follow a reply from the event after `last_seq`; without a generation, the one that is running, if any."""
        return self._follow(
            wire.Resume(conversation_id=conversation_id, generation_id=generation_id, last_seq=last_seq)
        )

    async def cancel(self, generation_id: str) -> bool:
        """Stop a reply, all the way into the engine; False where it had ended already."""
        await self._begin_session()
        body = wire.encode_body(wire.Cancel(generation_id=generation_id))
        return (await self._opened().fetch("POST", "/api/cancel", wire.Cancelled, body=body)).cancelled

    async def conversations(self, *, limit: int = 50, before: str | None = None) -> wire.ConversationPage:
        """Return a page of our conversations, newest first; `before` is the previous page's `next`."""
        await self._begin_session()
        params = {"limit": str(limit)} | ({"before": before} if before else {})
        return await self._opened().fetch("GET", "/api/conversations", wire.ConversationPage, params=params)

    async def conversation(self, conversation_id: str) -> wire.Conversation:
        """Return a conversation with its turns.

        Raises:
            ConversationNotFoundError: there is none of ours with this id.
        """
        await self._begin_session()
        return await self._opened().fetch("GET", f"/api/conversations/{conversation_id}", wire.Conversation)

    async def rename(self, conversation_id: str, title: str) -> wire.ConversationSummary:
        """Give a conversation another title."""
        await self._begin_session()
        path = f"/api/conversations/{conversation_id}"
        return await self._opened().fetch("PATCH", path, wire.ConversationSummary, body=wire.encode_title(title))

    async def delete(self, conversation_id: str) -> None:
        """Delete a conversation. Not repeated on a lost connection: the repeat would say "not found"."""
        await self._begin_session()
        await self._opened().fetch("DELETE", f"/api/conversations/{conversation_id}", type(None), is_repeatable=False)

    async def session(self) -> wire.Session:
        """Say who we are to the service."""
        return await self._begin_session()

    async def status(self) -> wire.ServerStatus:
        """Return what the service says of itself and its model servers."""
        return await self._opened().fetch("GET", "/api/status", wire.ServerStatus)

    async def wait_until_ready(
        self, *, timeout_seconds: float, on_change: Callable[[wire.ModelStatus], None] | None = None
    ) -> wire.ServerStatus:
        """Wait until a model takes traffic, telling `on_change` whatever else is the case meanwhile.

        Raises:
            ModelUnavailableError: none did within `timeout_seconds`.
            ConnectionLostError: the service could not even be asked.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        seen: wire.ModelStatus | None = None
        while True:
            problem: ClientError
            try:
                status = await self.status()
            except ConnectionLostError as error:
                problem = error
            else:
                if status.model.ready:
                    return status
                if status.model != seen and on_change is not None:
                    on_change(status.model)
                seen = status.model
                problem = _not_ready(seen, timeout_seconds)
            if self._clock.monotonic() + _POLL_SECONDS >= deadline:
                raise problem
            await self._clock.sleep(_POLL_SECONDS)

    def _follow(self, opening: wire.Frame) -> ReplyStream:
        http = self._opened()
        stream = ReplyStream(
            opening,
            StreamContext(
                settings=self._settings,
                clock=self._clock,
                random=self._random,
                choice=self._choice,
                transports={
                    TransportKind.WEBSOCKET: WebSocketTransport(http, self._settings),
                    TransportKind.SSE: SseTransport(http, self._settings),
                },
                get_heartbeat_seconds=self._get_heartbeat_seconds,
                cancel=self.cancel,
                on_close=self._streams.discard,
            ),
        )
        self._streams.add(stream)
        return stream

    async def _get_heartbeat_seconds(self) -> float:
        # The stream waits and announces itself, so a lost attempt is not repeated here.
        return (await self._session_by(self._opened().fetch_once)).heartbeat_seconds

    async def _begin_session(self) -> wire.Session:
        return await self._session_by(self._opened().fetch)

    async def _session_by(
        self, fetch: Callable[[str, str, type[wire.Session]], Awaitable[wire.Session]]
    ) -> wire.Session:
        async with self._session_lock:
            if self._session is None:
                self._session = await fetch("GET", "/api/session", wire.Session)
            return self._session

    def _opened(self) -> Http:
        if self._http is None:
            raise RuntimeError("Use the client inside `async with ChatClient(…) as chat:`.")
        return self._http


def _not_ready(model: wire.ModelStatus, timeout_seconds: float) -> ModelUnavailableError:
    replicas = ", ".join(f"{replica.name}: {replica.state} {replica.detail}".rstrip() for replica in model.replicas)
    return ModelUnavailableError(
        f"No model server was ready within {timeout_seconds:g} s ({replicas or 'none is known'}).",
        hint="`pratique status` and `pratique logs` say more.",
    )
