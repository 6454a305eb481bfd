"""Requests to registries: TLS or not, deadlines, sizes, redirects, repetitions. What they mean is the client's.

A login goes to the origin that it was made for, to no other that a redirect or an upload leads to. From TLS no redirect
leads to plain HTTP.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

import urllib3

from pratique.release.errors import UnavailableError
from pratique.release.impatience import ImpatientPools, pieces_of
from pratique.release.registry._authorizing import Authorizer, Scope, TokenRequest
from pratique.release.registry.credentials import Credentials
from pratique.release.registry.names import is_loopback
from pratique.release.registry.settings import RegistrySettings

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

__all__ = ["Answer", "Ask", "Http", "origin_of", "read_beginning", "read_pieces"]

_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})
_DISCARDED_BYTES: Final = 64 * 1024
_MAX_TOKEN_BYTES: Final = 256 * 1024
_PAUSE_SECONDS: Final = 0.1
_MAX_PAUSE_SECONDS: Final = 5.0
_UNAUTHORIZED: Final = 401
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read whole."""

    asked: str
    """Method and address, for messages."""
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    method: str
    url: str
    scope: Scope
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], bytes | IO[bytes]] | None = None
    """Called anew each time that it is sent."""
    max_bytes: int = 1024 * 1024
    """Of the answer."""
    may_repeat: bool = True
    seconds: float | None = None
    """Until the answer is whole, all repetitions included; None: the settings' deadline."""

    def __str__(self) -> str:
        return f"{self.method} {self.url.partition('?')[0]}"


class Http:
    """Sends requests. Safe to use from several threads."""

    def __init__(self, settings: RegistrySettings, credentials: Credentials) -> None:
        self._settings = settings
        self._pool = ImpatientPools(
            num_pools=16,
            maxsize=16,
            retries=False,
            ca_certs=str(settings.ca_file) if settings.ca_file is not None else None,
            timeout=urllib3.Timeout(connect=settings.connect_seconds, read=settings.read_seconds),
        )
        self._authorizer = Authorizer(credentials, self._fetch_token)

    def base_of(self, address: str) -> str:
        """Return the URL of a registry: plain HTTP on this machine and where it is allowed, TLS elsewhere."""
        is_plain = is_loopback(address) or address in self._settings.plain_http_hosts
        return f"{'http' if is_plain else 'https'}://{address}"

    def ask(self, ask: Ask) -> Answer:
        """Send a request and read its answer, again where that does no harm.

        Raises:
            UnavailableError: no answer, or only ones that say "later".
        """
        deadline = time.monotonic() + (ask.seconds or self._settings.deadline_seconds)
        for attempt in range(1, self._settings.attempts + 1):
            is_last = attempt == self._settings.attempts or not ask.may_repeat
            pause = min(_MAX_PAUSE_SECONDS, _PAUSE_SECONDS * 3**attempt) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
            try:
                with self.stream(ask, deadline) as response:
                    answer = _whole(ask, response, deadline)
            except UnavailableError:
                if is_last or time.monotonic() + pause > deadline:
                    raise
            else:
                if answer.status not in _TRANSIENT:
                    return answer
                pause = max(pause, _retry_after(answer.headers))
                if is_last or time.monotonic() + pause > deadline:
                    raise UnavailableError(f"{ask}: the registry answered {answer.status}: {_excerpt(answer.body)}")
            time.sleep(pause)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    @contextlib.contextmanager
    def stream(self, ask: Ask, deadline: float) -> Iterator[BaseHTTPResponse]:
        """Send a request once and give its answer to be read piece by piece."""
        with _translated(ask):
            response = self._follow(ask, deadline)
        try:
            yield response
        finally:
            response.close()

    def _follow(self, ask: Ask, deadline: float) -> BaseHTTPResponse:
        """Send, answer a challenge once, go where a redirect leads."""
        home = self.base_of(ask.scope.repository.address)
        url, is_challenged = ask.url, False
        for _ in range(_MAX_REDIRECTS + 2):
            self._require_allowed(url, home, ask)
            is_home = origin_of(url) == origin_of(home)
            granted = self._authorizer.header(ask.scope) if is_home else None
            response = self._send(ask, url, granted, deadline)
            if response.status == _UNAUTHORIZED and is_home and not is_challenged:
                is_challenged = True
                if self._authorizer.answer(ask.scope, response.headers.get("WWW-Authenticate", "")) is None:
                    return response
            elif response.status in _REDIRECTS and ask.method in {"GET", "HEAD"}:
                url = urljoin(url, response.headers.get("Location", ""))
            else:
                return response
            _discard(response, deadline)
        raise UnavailableError(f"{ask}: the registry redirects more than {_MAX_REDIRECTS} times")

    def _send(self, ask: Ask, url: str, granted: str | None, deadline: float) -> BaseHTTPResponse:
        headers = {"User-Agent": "pratique", "Accept-Encoding": "identity", **ask.headers}
        if granted is not None:
            headers["Authorization"] = granted
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnavailableError(f"{ask}: no answer in time")
        timeout = urllib3.Timeout(
            connect=min(left, self._settings.connect_seconds), read=min(left, self._settings.read_seconds)
        )
        body = ask.body() if ask.body is not None else None
        return self._pool.request(
            ask.method, url, body=body, headers=headers, timeout=timeout, redirect=False, preload_content=False
        )

    def _require_allowed(self, url: str, home: str, ask: Ask) -> None:
        parts = urlsplit(url)
        is_plain_allowed = home.startswith("http://") and self.base_of(parts.netloc).startswith("http://")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_plain_allowed):
            raise UnavailableError(
                f"{ask}: the registry leads to '{url[:200]}', which is not asked",
                hint="Only https is; plain http on this machine, and on the hosts of plain_http_hosts.",
            )

    def _fetch_token(self, request: TokenRequest) -> bytes:
        headers = {"User-Agent": "pratique", "Accept-Encoding": "identity"}
        if request.authorization:
            headers["Authorization"] = request.authorization
        if request.form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        parts = urlsplit(request.url)
        plain = all(self.base_of(one).startswith("http:") for one in (request.address, parts.netloc))
        if parts.scheme != "https" and not (parts.scheme == "http" and plain):
            raise UnavailableError(f"the registry names '{request.url[:200]}' for tokens: a login goes only over TLS")
        response = self._pool.request(
            "POST" if request.form else "GET",
            request.url,
            body=request.form or None,
            headers=headers,
            redirect=False,
            preload_content=False,
        )
        body = _beginning(response, time.monotonic() + self._settings.deadline_seconds, _MAX_TOKEN_BYTES)
        if response.status != _OK:
            raise UnavailableError(
                f"the token server {parts.netloc} answered {response.status}: {_excerpt(body)}",
                hint="Is the login right? See: podman login --get-login HOST",
            )
        return body


def read_pieces(ask: Ask, response: BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
    """Read an answer piece by piece until it ends.

    Raises:
        UnavailableError: it breaks off, or is not whole in time.
    """
    with _translated(ask):
        yield from pieces_of(response, deadline)


def read_beginning(ask: Ask, response: BaseHTTPResponse, deadline: float) -> bytes:
    """Read what an error's answer says, at most so much as was asked for.

    Raises:
        UnavailableError: it breaks off, or does not come in time.
    """
    with _translated(ask):
        return _beginning(response, deadline, ask.max_bytes)


def origin_of(url: str) -> tuple[str, str]:
    """Return the scheme and the authority of a URL, as they are compared."""
    parts = urlsplit(url)
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return parts.scheme, parts.netloc.rpartition("@")[2].lower().removesuffix(default)


def _discard(response: BaseHTTPResponse, deadline: float) -> None:
    """Read what little there may be, so that the connection can be used again; never all that somebody may send."""
    _beginning(response, deadline, _DISCARDED_BYTES)


def _beginning(response: BaseHTTPResponse, deadline: float, max_bytes: int) -> bytes:
    content = bytearray()
    try:
        for piece in pieces_of(response, deadline):
            content += piece
            if len(content) >= max_bytes:
                break
    finally:
        response.close()
    return bytes(content[:max_bytes])


def _whole(ask: Ask, response: BaseHTTPResponse, deadline: float) -> Answer:
    body = bytearray()
    for piece in read_pieces(ask, response, deadline):
        body += piece
        if len(body) > ask.max_bytes:
            raise UnavailableError(f"{ask}: the answer has more than {ask.max_bytes} bytes")
    return Answer(str(ask), response.status, response.headers, bytes(body))


@contextlib.contextmanager
def _translated(ask: Ask) -> Iterator[None]:
    try:
        yield
    except urllib3.exceptions.SSLError as error:
        raise UnavailableError(
            f"{ask}: no trusted connection: {error}", hint="A private authority is named by ca_file."
        ) from error
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: what is no URL or header
        raise UnavailableError(f"{ask}: the registry does not answer: {error}") from error


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("Retry-After", "")
    return min(float(value), _MAX_PAUSE_SECONDS) if value.isascii() and value.isdigit() else 0.0


def _excerpt(body: bytes) -> str:
    return body[:300].decode("utf-8", "replace")
