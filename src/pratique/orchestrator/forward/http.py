"""The baseline lane: straight to the edge's internal listener, or a model server, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from pratique.orchestrator.forward.interface import ForwardAnswer, ForwardRequest, ForwardUnavailableError

__all__ = ["HttpForwarder"]

_EDGE_STATUSES: Final = frozenset({502, 503, 504})
# Of one hop only (RFC 9110 7.6.1), and what this server says of itself.
_NOT_RETURNED: Final = frozenset(
    b"connection keep-alive proxy-authenticate te trailer transfer-encoding upgrade set-cookie server date "
    b"content-encoding".split()
)


class HttpForwarder:
    """A `Forwarder` over one pooled client session, which the caller owns."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, connect_timeout_seconds: float) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._connect_timeout_seconds = connect_timeout_seconds

    @asynccontextmanager
    async def open(self, request: ForwardRequest) -> AsyncIterator[ForwardAnswer]:
        timeout = aiohttp.ClientTimeout(
            total=request.timeout_seconds,
            sock_connect=self._connect_timeout_seconds,
            sock_read=request.timeout_seconds,
        )
        try:
            response = await self._session.request(
                request.method,
                URL(self._url + request.path, encoded=True),
                # Encoded answers would be decoded on the way.
                headers=[
                    *request.headers,
                    ("accept-encoding", "identity"),
                    ("x-pratique-conversation", request.affinity),
                ],
                data=request.body or None,
                timeout=timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ForwardUnavailableError(
                f"No model server could be reached: {str(error) or type(error).__name__}."
            ) from error
        answer = _Answer(response)
        try:
            if response.status in _EDGE_STATUSES and response.content_type != "application/json":
                raise ForwardUnavailableError("The edge found no server.")
            yield answer
        finally:
            if answer.has_ended:
                response.release()
            else:
                response.close()


class _Answer:
    lane = "baseline"

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.has_ended = False
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        lowered = ((name.lower(), value) for name, value in self._response.raw_headers)
        return [(name, value) for name, value in lowered if name not in _NOT_RETURNED]

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ForwardUnavailableError(f"The answer broke off: {str(error) or type(error).__name__}.") from error
        self.has_ended = True
