"""One HTTP request, by the standard library: for services that are spoken to in plain HTTP, without a client's weight.

No retry, no redirect, no cookie, no proxy: what a test is told is what the server said, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from pratique.testkit.errors import (
    ServiceGoneError,
    ServiceStartError,
    TestkitError,
    TestkitUsageError,
    UnexpectedAnswerError,
)
from pratique.testkit.services.choice import without_password

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

__all__ = ["Answered", "answering", "ask", "exchange", "nobody_answers", "read_all"]

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
    import http.client  # not where the plugin is loaded: it brings TLS and mail

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


@contextmanager
def answering(title: str, url: str) -> Iterator[None]:
    """Hold a service that was ready to its answers.

    Raises:
        ServiceGoneError: it gave none within the block; names the service and where it was.
    """
    try:
        yield
    except OSError as error:
        raise ServiceGoneError(
            f"{title} at {without_password(url)} does not answer: {error}.",
            hint="Was it killed, by the test or for want of memory? Its last log lines are below a failed test.",
        ) from error


def nobody_answers(title: str, url: str, error: Exception) -> ServiceStartError:
    """Return what is raised where a server that was named by its URL does not answer as the service does."""
    said = error.message if isinstance(error, TestkitError) else f"{str(error) or repr(error)}."
    return ServiceStartError(
        f"Nobody answers as {title} at {without_password(url)}: {said}",
        hint="It was named by a flag, the environment, an ini file or a factory's argument. Is it running?",
    )
