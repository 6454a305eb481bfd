"""HTTP that ends: no answer holds whoever waits by coming byte for byte.

A socket's timeout begins anew with every byte. So a server that sends one now and then could hold a client for ever,
with an answer's head or with its body, and a rollback with it. Here the whole head must come within the read timeout,
and pieces of a body are given as they come, so that whoever reads can look at the clock between them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse, HTTPResponse

__all__ = ["ImpatientPools", "TooSlowError", "pieces_of"]

_PIECE_BYTES = 256 * 1024


class TooSlowError(urllib3.exceptions.HTTPError):
    """The answer was not whole in time."""


class _Impatient(HTTPConnection):
    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own says
        with _ended_after(self):
            return super().getresponse()


class _HttpsConnection(_Impatient, HTTPSConnection):
    """The same over TLS."""


@contextlib.contextmanager
def _ended_after(connection: HTTPConnection) -> Iterator[None]:
    """End a connection where the body takes longer than its timeout; what reads from it then meets its end."""
    seconds = connection.timeout
    if not isinstance(seconds, int | float):
        yield
        return
    watch = threading.Timer(seconds, _end, (connection,))
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def _end(connection: HTTPConnection) -> None:
    ended = connection.sock
    if ended is not None:
        with contextlib.suppress(OSError):
            ended.shutdown(socket.SHUT_RDWR)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Impatient


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class ImpatientPools(urllib3.PoolManager):
    """urllib3's pools, with a bound on the time of an answer's head: the read timeout."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - urllib3's own, handed on
        super().__init__(**options)
        self.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


def pieces_of(response: BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
    """Read an answer's body piece by piece as it comes, as it came over the wire.

    Args:
        response: the answer, its body not read yet.
        deadline: until when it must be whole, by the monotonic clock.

    Raises:
        TooSlowError: it is not.
        urllib3.exceptions.HTTPError: it breaks off.
    """
    while piece := response.read1(_PIECE_BYTES, decode_content=False):
        if time.monotonic() > deadline:
            raise TooSlowError("the answer is not whole in time")
        yield piece
