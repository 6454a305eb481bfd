"""Events over server-sent events: a POST that says something, or a GET that resumes, answered by a stream."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

import aiohttp
import msgspec

from pratique.client import _wire as wire
from pratique.client._http import error_of_response, lost_by, read_bounded
from pratique.client._link import LinkLostError
from pratique.client._sse import SseParser
from pratique.client._transport import Connection, Transport
from pratique.client.errors import ProtocolMismatchError

if TYPE_CHECKING:
    from pratique.client._http import Http
    from pratique.client.settings import ClientSettings

__all__ = ["SseTransport"]

_OK: Final = 200
_MEDIA_TYPE: Final = "text/event-stream"


class SseTransport(Transport):
    """Opens one streaming request for each connection."""

    def __init__(self, http: Http, settings: ClientSettings) -> None:
        self._http = http
        self._settings = settings

    async def open(self, frame: wire.Frame) -> _SseConnection:
        try:
            async with asyncio.timeout(self._settings.connect_timeout_seconds):
                response = await self._request(frame)
                if response.status != _OK:
                    async with response:
                        raise error_of_response(response.status, await read_bounded(response), response.headers)
        except TimeoutError as error:
            raise LinkLostError("no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise lost_by(error) from error
        if response.content_type != _MEDIA_TYPE:
            response.close()
            raise ProtocolMismatchError(f"Expected {_MEDIA_TYPE} from {response.url}; found {response.content_type}.")
        return _SseConnection(response, SseParser(max_event_bytes=self._settings.max_event_bytes))

    async def _request(self, frame: wire.Frame) -> aiohttp.ClientResponse:
        match frame:
            case wire.Message():
                return await self._post("/api/chat", frame)
            case wire.Retry():
                return await self._post("/api/retry", frame)
            case wire.Resume():
                return await self._get(frame)
            case _:
                assert_never(frame)

    async def _post(self, path: str, frame: wire.Frame) -> aiohttp.ClientResponse:
        headers = {"Accept": _MEDIA_TYPE, "Content-Type": "application/json"}
        return await self._http.session.post(self._http.url(path), data=wire.encode_body(frame), headers=headers)

    async def _get(self, frame: wire.Resume) -> aiohttp.ClientResponse:
        cursor = {"generation_id": frame.generation_id, "last_seq": str(frame.last_seq)} if frame.generation_id else {}
        url = self._http.url(f"/api/conversations/{frame.conversation_id}/events")
        return await self._http.session.get(url, params=cursor, headers={"Accept": _MEDIA_TYPE})


class _SseConnection(Connection):
    def __init__(self, response: aiohttp.ClientResponse, parser: SseParser) -> None:
        self._response = response
        self._parser = parser
        self._ready: deque[str] = deque()  # what one read brought: bounded by the read buffer

    async def receive(self) -> wire.ServerEvent | None:
        while not self._ready:
            self._ready.extend(await self._read())
        try:
            return wire.decode_event(self._ready.popleft())
        except msgspec.DecodeError as error:
            raise ProtocolMismatchError(f"Expected an event of the chat protocol: {error}.") from error

    async def _read(self) -> list[str]:
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise lost_by(error) from error
        if not chunk:
            raise LinkLostError("the stream ended before the reply did")
        try:
            return self._parser.feed(chunk)
        except ValueError as error:
            raise ProtocolMismatchError(f"Expected server-sent events: {error}.") from error

    async def close(self) -> None:
        self._response.close()
