"""The registry behind the front: streams pass through it piece by piece, manifests are asked for whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from starlette.requests import ClientDisconnect
from yarl import URL

from pratique.core.events import get_logger
from pratique.release.registry.front.answers import Refusal
from pratique.release.registry.front.requests import passed_back
from pratique.release.registry.interface import IMAGE_INDEX
from pratique.release.registry.manifests import MANIFEST_TYPES, MAX_MANIFEST_BYTES
from pratique.release.values import Digest, digest_of

if TYPE_CHECKING:
    from starlette.types import Send

__all__ = ["Said", "Upstream"]

_logger = get_logger("registry_front")
_PIECE_BYTES: Final = 256 * 1024
_CONNECT_SECONDS: Final = 10.0
_OK: Final = 200
_MISSING: Final = 404


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of the registry, read whole."""

    status: int
    headers: list[tuple[str, str]]
    """Those that a client may get."""
    body: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        return digest_of(self.body)

    def refusal(self) -> Refusal:
        """Return it as the front's own answer: a login that is missing, for one, is the client's to bring."""
        kept = {name: value for name, value in self.headers if name.lower() in {"www-authenticate", "retry-after"}}
        text = self.body[:500].decode("utf-8", "replace")
        return Refusal(self.status, "DENIED", f"the registry answered {self.status}: {text}", headers=kept)


class Upstream:
    """A client of one registry. It follows no redirects: they are the client's to follow."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, seconds: float, idle_seconds: float) -> None:
        self.url = url
        self._session = session
        self._seconds = seconds
        self._idle_seconds = idle_seconds

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Said:
        """Ask for something small.

        Raises:
            Refusal: the registry did not answer.
        """
        with _translated():
            async with (
                asyncio.timeout(self._seconds),
                self._session.request(
                    method, self._url(path), headers=headers, data=body, allow_redirects=False
                ) as answer,
            ):
                content = bytearray()
                async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                    content += piece
                    if len(content) > MAX_MANIFEST_BYTES:
                        raise Refusal(502, "SIZE_INVALID", f"the registry sent more than {MAX_MANIFEST_BYTES} bytes")
                kept = passed_back(answer.headers.items(), self.url)
                return Said(answer.status, kept, bytes(content), answer.content_type)

    async def manifest(self, repository: str, reference: str, headers: Mapping[str, str]) -> Said | None:
        """Return a manifest as it lies there, None where there is none.

        Raises:
            Refusal: the registry did not answer, or said no.
        """
        asked = {**_login(headers), "accept": ", ".join(MANIFEST_TYPES)}
        said = await self.ask("GET", f"/v2/{repository}/manifests/{reference}", asked)
        if said.status not in {_OK, _MISSING}:
            raise said.refusal()
        return said if said.status == _OK else None

    async def put_index(self, repository: str, tag: str, index: bytes, headers: Mapping[str, str]) -> Said:
        """Write an index under a tag."""
        asked = {**_login(headers), "content-type": IMAGE_INDEX}
        return await self.ask("PUT", f"/v2/{repository}/manifests/{tag}", asked, index)

    async def relay(
        self, method: str, path: str, headers: Mapping[str, str], body: AsyncIterator[bytes] | None, send: Send
    ) -> None:
        """Pass a request on and its answer back, piece by piece.

        Raises:
            Refusal: there is no answer; nothing was passed back yet.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._idle_seconds)
        async with contextlib.AsyncExitStack() as stack:
            with _translated():
                request = self._session.request(
                    method, self._url(path), headers=headers, data=body, allow_redirects=False, timeout=timeout
                )
                answer = await stack.enter_async_context(request)
            kept = passed_back(answer.headers.items(), self.url)
            raw = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in kept]
            await self._send(send, {"type": "http.response.start", "status": answer.status, "headers": raw})
            try:
                async for piece in answer.content.iter_any():
                    await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
            except (aiohttp.ClientError, TimeoutError) as error:
                # Too late for an answer: it ends before its announced length, which no client takes for whole.
                _logger.warning("answer_broke_off", path=path, error=repr(error))
                return
            await self._send(send, {"type": "http.response.body", "body": b""})

    async def _send(self, send: Send, message: dict[str, object]) -> None:
        async with asyncio.timeout(self._idle_seconds):
            await send(message)

    def _url(self, path: str) -> URL:
        return URL(self.url + path, encoded=True)


def _login(headers: Mapping[str, str]) -> dict[str, str]:
    """The client's own login: the front has none."""
    kept = {name: headers[name] for name in ("authorization", "user-agent") if name in headers}
    return {**kept, "accept-encoding": "identity"}


def _cause_in_body(error: BaseException) -> Refusal | ClientDisconnect | None:
    """Return what ended the client's body while it was passed on: not the registry's fault."""
    chained: BaseException | None = error
    while chained is not None and not isinstance(chained, Refusal | ClientDisconnect):
        chained = chained.__cause__ or chained.__context__
    return chained


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Refusal(504, "UNAVAILABLE", "the registry did not answer in time") from error
    except aiohttp.ClientError as error:
        cause = _cause_in_body(error)
        if cause is not None:
            raise cause from error
        _logger.warning("registry_unreachable", error=repr(error))
        raise Refusal(502, "UNAVAILABLE", "the registry cannot be reached") from error
