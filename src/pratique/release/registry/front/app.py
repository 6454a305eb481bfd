"""The front as an ASGI application: what each request may do, and who answers it.

Reads and blobs pass through; writes of manifests go through `writing`; deletes are refused unless they are allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pratique.core.events import get_logger
from pratique.release.registry.errors import StateError
from pratique.release.registry.front.answers import BASE_HEADERS, Refusal
from pratique.release.registry.front.requests import Kind, Place, parse_condition, parse_place, passed_on
from pratique.release.registry.front.upstream import Upstream
from pratique.release.registry.front.writing import ManifestPut, Writer
from pratique.release.registry.interface import IMAGE_INDEX
from pratique.release.registry.manifests import MAX_MANIFEST_BYTES, filter_referrers
from pratique.release.registry.settings import FrontSettings

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["Front"]

_logger = get_logger("registry_front")
_TOO_MANY: Final = 429


class Front:
    """The application."""

    def __init__(self, settings: FrontSettings, upstream: Upstream, writer: Writer) -> None:
        self._settings = settings
        self._upstream = upstream
        self._writer = writer
        self._num_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        self._num_running += 1
        try:
            self._require_room()
            await self._answer(request, send)
        except Refusal as refusal:
            await refusal.response()(scope, receive, send)
        except StateError as error:
            _logger.exception("state_failed", error=error.message)
            await Refusal(503, "UNAVAILABLE", error.message).response()(scope, receive, send)
        except (ClientDisconnect, TimeoutError):
            _logger.info("client_gone", method=request.method, path=request.scope["path"])
        finally:
            self._num_running -= 1

    def _require_room(self) -> None:
        if self._num_running > self._settings.max_requests:
            raise Refusal(_TOO_MANY, "TOOMANYREQUESTS", "too many requests at a time", headers={"Retry-After": "1"})

    async def _answer(self, request: Request, send: Send) -> None:
        place = parse_place(request.method, request.scope["path"])
        headers = passed_on(request.headers.items())
        if place.kind is Kind.REFERRERS:
            response = await self._referrers(request, place, headers)
        elif place.kind is Kind.MANIFEST and request.method == "PUT":
            response = await self._put(request, place, headers)
        else:
            if request.method == "DELETE" and place.kind is not Kind.UPLOAD:
                await self._require_deletable(place, headers)
            await self._relay(request, headers, send)
            return
        await response(request.scope, request.receive, send)

    async def _relay(self, request: Request, headers: dict[str, str], send: Send) -> None:
        query = request.scope["query_string"].decode("latin-1")
        path = request.scope["path"] + (f"?{query}" if query else "")
        has_body = request.method in {"POST", "PUT", "PATCH"}
        body = self._body(request, self._settings.max_blob_bytes) if has_body else None
        await self._upstream.relay(request.method, path, headers, body, send)

    async def _put(self, request: Request, place: Place, headers: dict[str, str]) -> Response:
        content = bytearray()
        async for piece in self._body(request, MAX_MANIFEST_BYTES):
            content += piece
        media_type = headers.get("content-type", "").partition(";")[0].strip()
        put = ManifestPut(place, bytes(content), media_type, parse_condition(request.headers), headers)
        # Shielded: what is begun at the registry ends in order, whoever still waits for it.
        said = await asyncio.shield(self._writer.put(put))
        response = Response(said.body, said.status)
        kept = [(name, value) for name, value in said.headers if name.lower() != "content-length"]
        response.raw_headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in kept]
        return response

    async def _referrers(self, request: Request, place: Place, headers: dict[str, str]) -> Response:
        index = await self._writer.referrers(place.repository, place.reference, headers)
        wanted = parse_qs(request.scope["query_string"].decode("latin-1")).get("artifactType", [])
        filtered = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        for one in wanted[:1]:
            index = filter_referrers(index, one)
        # Set by hand: of a media_type of its own, starlette makes one with a charset.
        return Response(index, headers={**BASE_HEADERS, **filtered, "Content-Type": IMAGE_INDEX})

    async def _require_deletable(self, place: Place, headers: dict[str, str]) -> None:
        if not self._settings.allow_deletes:
            raise Refusal(405, "UNSUPPORTED", "nothing is deleted here: see allow_deletes in the front's settings")
        if place.is_tag:
            raise Refusal(405, "UNSUPPORTED", "a tag is not deleted: delete the manifest by its digest")
        if place.kind is Kind.MANIFEST:
            await self._writer.forget(place.repository, place.reference, headers)

    async def _body(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        too_large = Refusal(413, "SIZE_INVALID", f"a body of more than {max_bytes} bytes is not taken")
        announced = request.headers.get("content-length", "0")
        if not announced.isdigit() or int(announced) > max_bytes:
            raise too_large
        size = 0
        stream = request.stream()
        while True:
            async with asyncio.timeout(self._settings.idle_seconds):
                piece = await anext(stream, None)
            if piece is None:
                return
            size += len(piece)
            if size > max_bytes:
                raise too_large
            if piece:
                yield piece
