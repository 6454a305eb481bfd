"""The baseline lane: straight to the edge's internal listener, or a model server, over HTTP.

A client of its own over httptools (ADR 0033). A request whose reused connection turns out to have been closed, before
anything was heard on it, is sent once more on a fresh one: generating changes nothing, so that is safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pratique.core.errors import CallerError
from pratique.orchestrator.forward._connection import Connection, StaleConnectionError
from pratique.orchestrator.forward._pool import Pool
from pratique.orchestrator.forward.interface import (
    ForwardAnswer,
    ForwardRequest,
    ForwardTimeoutError,
    ForwardUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

__all__ = ["HttpForwarder"]

_EDGE_STATUSES: Final = frozenset({502, 503, 504})
_GATEWAY_TIMEOUT: Final = 504
# Of one hop only (RFC 9110 7.6.1), and what this server says of itself.
_NOT_RETURNED: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade set-cookie "
    b"server date".split()
)
_USUAL_CONNECTION: Final = frozenset({b"keep-alive", b"close"})


class HttpForwarder:
    """A `Forwarder` over connections of its own; `aclose` ends them."""

    def __init__(self, url: str, *, connect_timeout_seconds: float) -> None:
        parts = urlsplit(url)
        self._base_path = parts.path.rstrip("/")
        self._own_lines = f"host: {parts.netloc.rpartition('@')[2]}\r\naccept-encoding: identity"
        self._pool = Pool(url, connect_timeout_seconds=connect_timeout_seconds)

    def open(self, request: ForwardRequest) -> AbstractAsyncContextManager[ForwardAnswer]:
        """See `Forwarder`. Raises CallerError for a header that would not stay one."""
        return _Exchange(self._pool, self._head_of(request), request)

    async def aclose(self) -> None:
        """Cut all connections."""
        self._pool.close()

    def _head_of(self, request: ForwardRequest) -> bytes:
        lines = [
            f"{request.method} {self._base_path}{request.path} HTTP/1.1",
            self._own_lines,
            f"x-pratique-conversation: {request.affinity}",
            *[f"{name}: {value}" for name, value in request.headers],
        ]
        if request.body or request.method not in {"GET", "HEAD"}:
            lines.append(f"content-length: {len(request.body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        num_ends = len(lines) + 2  # one among our own lines, one behind the head
        if head.count("\n") != num_ends or head.count("\r") != num_ends:
            raise CallerError("A header or the path has a line break in it.")
        return head.encode("latin-1")


class _Exchange:
    """One request and its answer, as a context: leaving it before the answer's end cuts the connection."""

    def __init__(self, pool: Pool, head: bytes, request: ForwardRequest) -> None:
        self._pool = pool
        self._head = head
        self._request = request
        self._connection: Connection | None = None

    async def __aenter__(self) -> ForwardAnswer:
        due = self._pool.now() + self._request.timeout_seconds
        try:
            try:
                connection = await self._ask(due, is_fresh=False)
            except StaleConnectionError:
                self._give_back()
                connection = await self._ask(due, is_fresh=True)
            answer = _Answer(connection)
            answer.verify_is_servers()
        except BaseException:
            self._give_back()
            raise
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    async def _ask(self, due: float, *, is_fresh: bool) -> Connection:
        connection = self._connection = await self._pool.acquire(is_fresh=is_fresh)
        connection.send(self._head, self._request.body, due=due)
        await connection.head()
        return connection

    def _give_back(self) -> None:
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None


class _Answer:
    lane = "baseline"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.status = connection.status
        self.headers = _returned(connection.headers)

    def verify_is_servers(self) -> None:
        """Raise ForwardUnavailableError for what the edge says where it has no server: not in JSON."""
        if self.status not in _EDGE_STATUSES or dict(self.headers).get(b"content-type", b"").find(b"json") >= 0:
            return
        if self.status == _GATEWAY_TIMEOUT:
            raise ForwardTimeoutError("The edge waited too long for a model server.")
        raise ForwardUnavailableError("The edge found no server.")

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self._connection.read():
            yield chunk


def _returned(headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    dropped = _NOT_RETURNED
    for name, value in headers:
        if name == b"connection" and value.lower() not in _USUAL_CONNECTION:
            # It names further headers that are of this hop only.
            dropped = dropped | {token.strip() for token in value.lower().split(b",")}
    return [header for header in headers if header[0] not in dropped]
