"""The Lambda handler: one request of the OpenAI API, sent on to the model servers, its answer streamed back.

Standard library only, imported in a few milliseconds, so that a cold start is short. The event is the payload format
2.0 of Lambda function URLs and HTTP APIs, so that the same function also works behind a function URL:
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html

`stream` is for the runtime of this package (runtime.py), which streams; `handle` is for AWS's managed Python runtime,
which cannot: it returns the answer whole, at most 6 MB of it. Both raise before the first byte where no answer came, so
that the invocation fails visibly and the caller may run the request elsewhere. Nothing of a request is logged.

Environment: PRATIQUE_BURST_INFERENCE_URL, the base URL of the model servers.
"""

from __future__ import annotations

import base64
import http.client
import os
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StreamedAnswer", "UnreachableError", "handle", "stream"]

_CONNECT_SECONDS: Final = 2.0
# Left of the invocation's time when the request is given up, so that the failure can still be told.
_MARGIN_SECONDS: Final = 0.25
_CHUNK_BYTES: Final = 64 * 1024
_EDGE_STATUSES: Final = frozenset({502, 503, 504})
_OF_ONE_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    }
)
_NOT_SENT: Final = _OF_ONE_HOP | {
    *("authorization", "proxy-authorization", "cookie"),
    *("accept-encoding", "expect", "host", "x-pratique-timeout-ms"),
}
_NOT_RETURNED: Final = _OF_ONE_HOP | {"content-encoding", "date", "server", "set-cookie"}


class UnreachableError(Exception):
    """No model server answered; no byte of an answer was seen."""


class StreamedAnswer:
    """An answer whose head is there and whose body is coming."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, end: float) -> None:
        self.status = response.status
        self.headers = _joined((name.lower(), value) for name, value in response.getheaders())
        self._connection = connection
        self._response = response
        self._end = end

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises TimeoutError, OSError, HTTPException where it breaks off."""
        while True:
            _limit(self._connection, self._end)
            # One read of what is there, not of so many bytes: a token is passed on when it comes.
            chunk = self._response.read1(_CHUNK_BYTES)
            if not chunk:
                break
            yield chunk
        if self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)

    def close(self) -> None:
        """Close the connection; a body that is still coming is given up, all the way into the engine."""
        self._response.close()
        self._connection.close()


def stream(event: dict[str, Any], context: Any) -> StreamedAnswer:  # noqa: ANN401 - AWS's own class, without types
    """Send the event's request; return when the head of the answer is there.

    Raises:
        UnreachableError: no model server answered in time, or the edge found none.
    """
    headers = {str(name).lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    seconds = context.get_remaining_time_in_millis() / 1000 - _MARGIN_SECONDS
    if "x-pratique-timeout-ms" in headers:
        seconds = min(seconds, int(headers["x-pratique-timeout-ms"]) / 1000)
    end = time.monotonic() + seconds
    connection = _connection()
    try:
        return _send(connection, event, headers, end)
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise UnreachableError(f"No model server answered: {str(error) or type(error).__name__}.") from error
    except UnreachableError:
        connection.close()
        raise


def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Send the event's request; return the whole answer, in payload format 2.0. Raises as `stream`."""
    answer = stream(event, context)
    try:
        body = b"".join(answer.chunks())
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"The answer broke off: {str(error) or type(error).__name__}.") from error
    finally:
        answer.close()
    return {
        "statusCode": answer.status,
        "headers": answer.headers,
        "body": base64.b64encode(body).decode("ascii"),
        "isBase64Encoded": True,
    }


def _connection() -> http.client.HTTPConnection:
    url = urlsplit(os.environ["PRATIQUE_BURST_INFERENCE_URL"])
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(str(url.hostname), url.port)


def _send(
    connection: http.client.HTTPConnection, event: dict[str, Any], headers: dict[str, str], end: float
) -> StreamedAnswer:
    request = event["requestContext"]["http"]
    body = event.get("body") or ""
    content = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    prefix = urlsplit(os.environ["PRATIQUE_BURST_INFERENCE_URL"]).path.rstrip("/")
    query = event.get("rawQueryString") or ""
    connection.timeout = min(_CONNECT_SECONDS, _limit(connection, end))
    connection.connect()
    _limit(connection, end)
    kept = {name: value for name, value in headers.items() if name not in _NOT_SENT}
    connection.request(
        request["method"],
        prefix + event["rawPath"] + (f"?{query}" if query else ""),
        body=content or None,
        headers={**kept, "accept-encoding": "identity"},
    )
    response = connection.getresponse()
    kind = response.getheader("content-type", "").partition(";")[0].strip()
    if response.status in _EDGE_STATUSES and kind != "application/json":
        raise UnreachableError("The edge found no server.")
    return StreamedAnswer(connection, response, end)


def _limit(connection: http.client.HTTPConnection, end: float) -> float:
    """Let the next wait end when the time is up; return the seconds until then. Raises TimeoutError where it is."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("The time is up.")
    # None once the last byte has been read: a server that closes after its answer.
    if connection.sock is not None:
        connection.sock.settimeout(left)
    return left


def _joined(pairs: Iterator[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        if name not in _NOT_RETURNED:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined
