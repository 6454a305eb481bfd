"""Events over a WebSocket: one socket for one reply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from pratique.client import _wire as wire
from pratique.client._http import GATEWAY_STATUSES, error_of_response, lost_by
from pratique.client._link import LinkLostError
from pratique.client._transport import Connection, Transport
from pratique.client.errors import ClientError, ProtocolMismatchError, TooLargeError, UnauthenticatedError

if TYPE_CHECKING:
    from pratique.client._http import Http
    from pratique.client.settings import ClientSettings

__all__ = ["WebSocketTransport", "error_of_close"]

_PATH: Final = "/api/ws"
_CLOSE_SECONDS: Final = 1.0
_REFUSED_STATUSES: Final = frozenset({401, 403})
_GOING_AWAY, _POLICY, _TOO_BIG, _RESTART, _TRY_LATER, _MALFORMED = 1001, 1008, 1009, 1012, 1013, 4400
_CREDENTIAL_EXPIRED: Final = 4401
_BLAMELESS: Final = frozenset({_GOING_AWAY, _RESTART, _TRY_LATER, _CREDENTIAL_EXPIRED})


def error_of_close(code: int | None, reason: str) -> LinkLostError | ClientError:
    """Say what a close code means: gone and to be had again, or refused."""
    said = f"the server closed the connection with {code}" + (f" ({reason})" if reason else "")
    if code == _POLICY:
        return UnauthenticatedError(f"Refused: {said}.", hint="Check the API key and the origin.")
    if code == _TOO_BIG:
        return TooLargeError(f"Refused: {said}.", hint="Send a shorter message.")
    if code == _MALFORMED:
        return ProtocolMismatchError(f"Refused: {said}.")
    return LinkLostError(said, is_blameless=code in _BLAMELESS)


class WebSocketTransport(Transport):
    """Opens one WebSocket for each connection."""

    def __init__(self, http: Http, settings: ClientSettings) -> None:
        self._http = http
        self._settings = settings

    async def open(self, frame: wire.Frame) -> _WebSocketConnection:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                socket = await self._connect()
                await socket.send_str(wire.encode_frame(frame).decode())
        except TimeoutError as error:
            raise LinkLostError("no connection in time") from error
        except aiohttp.WSServerHandshakeError as error:
            if error.status in _REFUSED_STATUSES:
                raise error_of_response(error.status, b"", {}) from error
            is_gateway = error.status in GATEWAY_STATUSES
            raise LinkLostError(f"the server answered {error.status}", is_blameless=is_gateway) from error
        except (aiohttp.ClientError, OSError) as error:
            raise lost_by(error) from error
        return _WebSocketConnection(socket)

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        return await self._http.session.ws_connect(
            self._http.url(_PATH),
            max_msg_size=self._settings.max_event_bytes,
            timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
        )


class _WebSocketConnection(Connection):
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> wire.ServerEvent | None:
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return _decode(message.data)
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise error_of_close(message.data, message.extra or "")
        raise LinkLostError("the connection broke")

    async def close(self) -> None:
        await self._socket.close()


def _decode(data: str) -> wire.ServerEvent | None:
    try:
        return wire.decode_event(data)
    except msgspec.DecodeError as error:
        raise ProtocolMismatchError(f"Expected an event of the chat protocol: {error}.") from error
