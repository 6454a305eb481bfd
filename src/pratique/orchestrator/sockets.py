"""uvicorn's WebSocket protocol, lean: less is kept of an idle connection, and several texts are written at once.

There are thousands of idle connections, and one event per token on the others. What differs from uvicorn's own:

- the handshake's request and response are let go once it is over, and the queue towards the application is a list;
- `{"type": "websocket.send", "texts": [bytes, …]}` sends several text messages, each as UTF-8 bytes, in one write. The
  scope says that this is there by the extension `pratique.texts`, which also holds `send_now`: a function that does the
  same without a wait, and returns False, having sent nothing, where the client does not take it now or has left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TEXTS", "LeanWebSocketProtocol"]

TEXTS: Final = "pratique.texts"
_TEXT: Final = 0x81  # a whole message, not a fragment (RFC 6455 5.2)
_SHORT: Final = 126
_LONG: Final = 65_536


class LeanWebSocketProtocol(WebSocketsSansIOProtocol):
    """For a server whose application is ours."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - as uvicorn has them
        super().__init__(*arguments, **options)
        self.queue = cast("asyncio.Queue[Any]", _Inbox())

    def handle_connect(self, event: Any) -> None:  # noqa: ANN401 - as uvicorn has it
        super().handle_connect(event)
        if hasattr(self, "scope"):
            # Its task has not begun yet.
            cast("dict[str, Any]", self.scope["extensions"])[TEXTS] = {"send_now": self._send_now}

    def start_keepalive(self) -> None:
        super().start_keepalive()
        del self.request, self.response

    async def send(self, message: Any) -> None:  # noqa: ANN401 - as ASGI has it
        texts = message.get("texts")
        if texts is None:
            await super().send(message)
            return
        if not self.writable.is_set():
            await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        if not self.close_sent:
            self.transport.write(_frames(texts))

    def _send_now(self, texts: Iterable[bytes]) -> bool:
        if not self.writable.is_set() or self.disconnected or self.close_sent or self.conn.state is not State.OPEN:
            return False
        if self.transport.is_closing():
            # Its end is on the way here: uvloop raises at what is written to a connection that broke a moment ago.
            return False
        self.transport.write(_frames(texts))
        return True


class _Inbox:
    """What uvicorn uses of an asyncio.Queue, which holds two kilobytes of deques."""

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._waiter: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        return not self._items

    def put_nowait(self, item: object) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Any:  # noqa: ANN401 - what was put
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.pop(0)


def _frames(texts: Iterable[bytes]) -> bytes:
    parts = []
    for text in texts:
        size = len(text)
        if size < _SHORT:
            parts.append(b"%c%c" % (_TEXT, size))
        elif size < _LONG:
            parts.append(b"%c%c%b" % (_TEXT, _SHORT, size.to_bytes(2)))
        else:
            parts.append(b"%c%c%b" % (_TEXT, _SHORT + 1, size.to_bytes(8)))
        parts.append(text)
    return b"".join(parts)
