"""One HTTP request, by the standard library: for services that are spoken to in plain HTTP, without a client's weight.

No retry, no redirect, no cookie, no proxy: what a test is told is what the server said, once.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from pratique.testkit.errors import TestkitUsageError, UnexpectedAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Answered", "ask", "exchange", "read_all"]

_SECONDS: Final = 30.0
_SHOWN_BYTES: Final = 300


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a server said."""

    asked: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in lower case."""
    body: bytes = b""

    def expect(self, *statuses: int) -> Answered:
        """Return this answer.

        Raises:
            UnexpectedAnswerError: it has another status; with the beginning of its body.
        """
        if self.status not in statuses:
            expected = " or ".join(map(str, statuses))
            said = self.body[:_SHOWN_BYTES].decode("utf-8", "replace")
            raise UnexpectedAnswerError(f"{self.asked}: expected {expected}, got {self.status}: {said}", self.status)
        return self

    def json(self) -> Any:  # noqa: ANN401 - whatever it says
        """Return the body, read as JSON.

        Raises:
            UnexpectedAnswerError: it is none.
        """
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            said = self.body[:_SHOWN_BYTES].decode("utf-8", "replace")
            raise UnexpectedAnswerError(f"{self.asked}: expected JSON, got: {said}", self.status) from error


def ask(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = _SECONDS,
) -> Answered:
    """Ask, and return the whole answer, whatever its status.

    Raises:
        OSError: nobody answers, or not in HTTP, or not in time.
    """
    with exchange(method, url, body=body, headers=headers, seconds=seconds) as response:
        return read_all(method, url, response)


def read_all(method: str, url: str, response: http.client.HTTPResponse) -> Answered:
    """Read what is left of an answer.

    Raises:
        OSError: it breaks off.
    """
    return Answered(
        asked=f"{method} {url}",
        status=response.status,
        headers={name.lower(): value for name, value in response.getheaders()},
        body=response.read(),
    )


@contextmanager
def exchange(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = _SECONDS,
) -> Iterator[http.client.HTTPResponse]:
    """Ask, and yield the answer as it begins: for one that is read as it comes. Leaving the block closes it.

    Raises:
        OSError: as `ask`; `seconds` is the time between two pieces.
        TestkitUsageError: it is no address.
    """
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise TestkitUsageError(f"Expected an address that begins with http:// or https://, got '{url}'.")
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=seconds)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        with connection.getresponse() as response:
            yield response
    except http.client.HTTPException as error:
        raise OSError(f"{method} {url}: the answer is not HTTP, or breaks off: {error!r}") from error
    finally:
        connection.close()
