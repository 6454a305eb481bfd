"""The HTTP side: one pooled aiohttp session, the cookies that keep us on one replica, JSON calls, errors by status.

The edge keeps a client on one replica by the affinity cookie that the service issues, so the cookie jar takes cookies
from plain IP addresses too (aiohttp's refuses them by default): a stack on 127.0.0.1 is the normal case.

A call that changes nothing when repeated is repeated on a lost connection, within its one deadline; others are not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
import msgspec
from yarl import URL

from pratique.client import _wire as wire
from pratique.client._link import Backoff, LinkLostError
from pratique.client.errors import (
    TRANSIENT_CODES,
    WIRE_ERRORS,
    ClientError,
    ConnectionLostError,
    ForbiddenError,
    InvalidRequestError,
    ProtocolMismatchError,
    UnauthenticatedError,
    from_wire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pratique.client.settings import ClientSettings
    from pratique.core.clock import Clock

__all__ = ["GATEWAY_STATUSES", "Http", "error_of_response", "lost_by", "parse_url", "read_bounded"]

T = TypeVar("T")

GATEWAY_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
_FIRST_REFUSAL: Final = 300
_BODY_LIMIT_BYTES: Final = 64 * 2**20


def parse_url(url: str) -> URL:
    """Read the base URL of a chat service.

    Raises:
        InvalidRequestError: it is not an http or https URL.
    """
    try:
        parsed = URL(url)
    except ValueError as error:
        raise InvalidRequestError(f"Expected a URL such as http://127.0.0.1:8080; found '{url}': {error}.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidRequestError(f"Expected a URL such as http://127.0.0.1:8080; found '{url}'.")
    return parsed.with_query(None).with_fragment(None)


def error_of_response(status: int, body: bytes, headers: Mapping[str, str]) -> LinkLostError | ClientError:
    """Say what an error response means: the service's own word where it is one, else a lost link, else a mismatch.

    A gateway answers for a service that is not there, in words or with codes of its own: that is a lost link, not a
    refusal.
    """
    retry_after = _retry_after_seconds(headers)
    try:
        error = msgspec.json.decode(body, type=wire.ErrorBody).error
    except msgspec.DecodeError:
        return _error_of_status(status, retry_after)
    if status in GATEWAY_STATUSES and error.code not in WIRE_ERRORS:
        return LinkLostError(error.message, is_blameless=True, retry_after_seconds=retry_after)
    if error.retry_after_seconds is None and error.code in TRANSIENT_CODES:
        error = msgspec.structs.replace(error, retry_after_seconds=retry_after)
    return from_wire(error)


def _error_of_status(status: int, retry_after: float) -> LinkLostError | ClientError:
    if status in GATEWAY_STATUSES:
        return LinkLostError(f"the server answered {status}", is_blameless=True, retry_after_seconds=retry_after)
    if status == 401:  # noqa: PLR2004 - HTTP's number
        return UnauthenticatedError("The server answered 401.", hint="Give an API key.")
    if status == 403:  # noqa: PLR2004 - HTTP's number
        return ForbiddenError("The server answered 403.")
    return ProtocolMismatchError(
        f"Expected an answer of the chat service; found HTTP status {status}.", hint="Is the URL that of the service?"
    )


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


class Http:
    """Calls of the HTTP API. To be closed."""

    def __init__(
        self, base: URL, *, settings: ClientSettings, clock: Clock, random: Callable[[], float], api_key: str | None
    ) -> None:
        self.base = base
        self._settings = settings
        self._clock = clock
        self._random = random
        self._backoff = Backoff(first_seconds=settings.backoff_first_seconds, cap_seconds=settings.backoff_cap_seconds)
        self.session = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_seconds),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self.session.close()

    def url(self, path: str) -> URL:
        """Return the address of a path below the base."""
        return self.base / path.lstrip("/")

    async def fetch(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
        is_repeatable: bool = True,
    ) -> T:
        """Call and read the answer as `kind`, again where the connection broke and a repeat does no harm.

        Raises:
            ConnectionLostError: there was no answer within `request_timeout_seconds`.
            ClientError: the server refused, or what answered is no chat service.
        """
        deadline = self._clock.monotonic() + self._settings.request_timeout_seconds
        attempt = 0
        while True:
            try:
                return await self.fetch_once(method, path, kind, body=body, params=params)
            except LinkLostError as error:
                delay = max(self._backoff.delay_seconds(attempt, self._random()), error.retry_after_seconds)
                attempt += 1
                if not is_repeatable or self._clock.monotonic() + delay >= deadline:
                    raise ConnectionLostError(
                        f"{self.base} cannot be reached: {error.reason}.", hint="Is it running? `pratique status` says."
                    ) from error
            await self._clock.sleep(delay)

    async def fetch_once(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> T:
        """Call once and read the answer as `kind`.

        Raises:
            LinkLostError: there was no answer.
            ClientError: the server refused, or what answered is no chat service.
        """
        raw = await self._call(method, path, body=body, params=params)
        try:
            return msgspec.json.decode(raw or b"null", type=kind)
        except msgspec.DecodeError as error:
            raise ProtocolMismatchError(
                f"{method} {self.url(path)} did not answer as a chat service does: {error}.",
                hint="Is the URL that of the chat service?",
            ) from error

    async def _call(self, method: str, path: str, *, body: bytes | None, params: Mapping[str, str] | None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with (
                asyncio.timeout(self._settings.request_timeout_seconds),
                self.session.request(
                    method, self.url(path), data=body, params=params, headers=headers, allow_redirects=False
                ) as response,
            ):
                raw = await read_bounded(response)
        except TimeoutError as error:
            raise LinkLostError("no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise lost_by(error) from error
        if response.status >= _FIRST_REFUSAL:
            raise error_of_response(response.status, raw, response.headers)
        return raw


async def read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Read a body of at most 64 MiB.

    Raises:
        ProtocolMismatchError: it is larger.
    """
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > _BODY_LIMIT_BYTES:
            raise ProtocolMismatchError(f"The answer of {response.url} is larger than {_BODY_LIMIT_BYTES} bytes.")
    return bytes(body)


def lost_by(error: Exception) -> LinkLostError:
    """Say in a few words what broke; a server that is not there at all is no transport's fault."""
    reason = str(error) or type(error).__name__
    return LinkLostError(reason, is_blameless=isinstance(error, aiohttp.ClientConnectorError))
