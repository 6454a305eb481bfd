"""Requests to the server that is evaluated. Each is sent once: what answers only on a second try is not shipped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import urllib3

from pratique.core.errors import CallerError
from pratique.release.evaluation.errors import IncompleteEvaluationError
from pratique.release.evaluation.settings import EvaluationSettings
from pratique.release.evaluation.wire import Ask
from pratique.release.plain import plain
from pratique.release.registry.names import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3.response import BaseHTTPResponse

__all__ = ["HttpServer", "base_url"]

_OK: Final = 200
_PIECE_BYTES: Final = 64 * 1024
_EXCERPT: Final = 300
_MAX_KEY_BYTES: Final = 8192


def base_url(url: str) -> str:
    """Return the address of a server without the path of its API.

    Raises:
        CallerError: it is no http(s) address, or has more in it than a path.
    """
    refusal = CallerError(
        f"expected the address of a server, got '{plain(url, max_characters=200)}'",
        hint="Like http://127.0.0.1:8081, without query or login.",
    )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise refusal from error
    if not is_address or parts.query or parts.fragment or "@" in parts.netloc:
        raise refusal
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server of the OpenAI API. Safe to use from several threads."""

    base: str
    settings: EvaluationSettings
    headers: Mapping[str, str]
    pool: urllib3.PoolManager
    deadline: float
    """On the monotonic clock: when everything must be answered."""

    @classmethod
    def open(cls, url: str, settings: EvaluationSettings) -> HttpServer:
        """Prepare to ask a server; nothing is sent. From now on the time for all cases runs.

        Raises:
            CallerError: the address is none, or the key cannot be read, or must not be sent there.
        """
        base = base_url(url)
        # Ours would leave messages out that do not fit; a golden set's are put as they are, or not at all.
        headers = {"Content-Type": "application/json", "User-Agent": "pratique", "x-pratique-budget": "off"}
        if settings.api_key_file is not None:
            parts = urlsplit(base)
            if parts.scheme != "https" and not is_loopback(parts.netloc):
                raise CallerError(f"the key is not sent to {base}: it would go over the network in plain text")
            headers["Authorization"] = f"Bearer {_key(settings)}"
        pool = urllib3.PoolManager(retries=False, maxsize=settings.concurrency)
        return cls(base, settings, headers, pool, time.monotonic() + settings.total_seconds)

    def get(self, path: str) -> bytes:
        """Return what is at a path.

        Raises:
            IncompleteEvaluationError: the server does not answer, not whole, not in time, or not with success.
        """
        return self._send("GET", path, None)

    def post(self, ask: Ask) -> bytes:
        """Send a request and return its answer.

        Raises:
            IncompleteEvaluationError: as `get`.
        """
        return self._send("POST", ask.path, ask.body)

    def _send(self, method: str, path: str, body: bytes | None) -> bytes:
        what = f"{method} {self.base}{path}"
        left = min(self.settings.case_seconds, self.deadline - time.monotonic())
        if left <= 0:
            raise IncompleteEvaluationError(
                f"{what}: {self.settings.total_seconds:g} s for all cases are over",
                hint="See total_seconds in [release.evaluation].",
            )
        timeout = urllib3.Timeout(connect=min(left, self.settings.connect_seconds), read=left)
        until = time.monotonic() + left
        try:
            response = self.pool.request(
                method,
                self.base + path,
                body=body,
                headers=self.headers,
                timeout=timeout,
                redirect=False,
                preload_content=False,
            )
            try:
                content = self._read(response, what, until)
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: what is no header
            raise IncompleteEvaluationError(f"{what}: the server does not answer: {error}") from error
        if response.status != _OK:
            said = plain(content[:_EXCERPT].decode("utf-8", "replace"))
            raise IncompleteEvaluationError(f"{what}: the server answered {response.status}: {said}")
        return content

    def _read(self, response: BaseHTTPResponse, what: str, until: float) -> bytes:
        body = bytearray()
        while piece := response.read1(_PIECE_BYTES, decode_content=False):
            body += piece
            if len(body) > self.settings.max_response_bytes:
                raise IncompleteEvaluationError(
                    f"{what}: the answer has more than {self.settings.max_response_bytes} bytes"
                )
            if time.monotonic() > until:
                raise IncompleteEvaluationError(f"{what}: the answer is not whole in time")
        return bytes(body)


def _key(settings: EvaluationSettings) -> str:
    assert settings.api_key_file is not None  # noqa: S101 - narrows the type: asked by the only caller
    try:
        with settings.api_key_file.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CallerError(f"the key {settings.api_key_file} cannot be read: {error}") from error
    if not key or not key.isprintable():
        raise CallerError(f"{settings.api_key_file} holds no key")
    return key
