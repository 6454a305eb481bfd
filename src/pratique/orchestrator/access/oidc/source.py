"""Where an issuer's keys come from, and when they are asked for again.

Fetched when a token first needs them, again when they are old (in the background: the old ones serve meanwhile), and
when a token names a key that is not there, but that at most once in a while, however many such tokens come. While the
issuer is away the old keys serve up to a limit; then there are none, and nobody is let in by them. One fetch at a time,
with a deadline and a bound in bytes; redirects are not followed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp

from pratique.core.catalogue.access import ISSUER_FETCHES
from pratique.core.events import get_logger
from pratique.core.settings import SettingsError
from pratique.orchestrator.access.errors import KeysUnavailableError, UnauthenticatedError
from pratique.orchestrator.access.oidc.keys import KeySet, parse_key_set
from pratique.orchestrator.access.oidc.token import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.access.oidc.token import ParsedToken
    from pratique.orchestrator.access.settings import OidcSettings

__all__ = ["KeySource", "discovered_url", "verify_url"]

_logger = get_logger("access")
_MAX_BYTES: Final = 512 * 1024
_DISCOVERY: Final = "/.well-known/openid-configuration"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TRY_AGAIN_SECONDS: Final = 2.0


class KeySource:
    """The keys of one issuer, as fresh as they can be had."""

    def __init__(self, settings: OidcSettings, http: aiohttp.ClientSession, *, clock: Clock, metrics: Metrics) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._fetches = metrics.counter(ISSUER_FETCHES)
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._asked_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    @property
    def keys(self) -> KeySet:
        """The keys as they are.

        Raises:
            KeysUnavailableError: there are none, or they are too old.
        """
        if self._keys is None or self._age() > self._settings.keep_seconds:
            raise KeysUnavailableError(
                f"The keys of the issuer {self._settings.issuer} cannot be had.", hint="Try again in a moment."
            )
        return self._keys

    async def prepare(self, token: ParsedToken) -> None:
        """Fetch the keys where this token needs it. Failure is said by `keys`."""
        has_keys = self._keys is not None and self._age() <= self._settings.keep_seconds
        if has_keys and self._keys is not None and self._keys.knows(token):
            if self._age() > self._settings.refresh_seconds:
                self._begin(at_most_every=self._settings.unknown_key_seconds)
            return
        pause = self._settings.unknown_key_seconds if has_keys else _TRY_AGAIN_SECONDS
        fetching = self._begin(at_most_every=pause)
        if fetching is not None:
            await asyncio.shield(fetching)

    async def aclose(self) -> None:
        """End a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._fetching

    def _age(self) -> float:
        return self._clock.monotonic() - self._fetched_at

    def _begin(self, *, at_most_every: float) -> asyncio.Task[None] | None:
        """Return the fetch under way, a new one, or None where it is too soon for another."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._clock.monotonic()
        if self._asked_at is not None and now - self._asked_at < at_most_every:
            return None
        self._asked_at = now
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                url = self._settings.jwks_url or await self._discover()
                self._keys = parse_key_set(await self._get(url), origin=url)
        except (KeysUnavailableError, UnauthenticatedError, aiohttp.ClientError, OSError, TimeoutError) as error:
            self._fetches.labels(outcome="failed").inc()
            _logger.warning("issuer_keys_failed", issuer=self._settings.issuer, error=str(error) or repr(error))
            return
        self._fetched_at = self._clock.monotonic()
        self._fetches.labels(outcome="ok").inc()

    async def _discover(self) -> str:
        """Ask the issuer where its keys are (OpenID Connect Discovery 1.0, section 4)."""
        issuer = self._settings.issuer
        return discovered_url(parse_object(await self._get(issuer.rstrip("/") + _DISCOVERY)), issuer=issuer)

    async def _get(self, url: str) -> bytes:
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with self._http.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004 - nothing else carries the keys
                raise KeysUnavailableError(f"{url} answered {response.status}.")
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise KeysUnavailableError(f"{url} answered with more than {_MAX_BYTES} bytes.")
            return bytes(data)


def discovered_url(document: Mapping[str, Any], *, issuer: str) -> str:
    """Return where an issuer's keys are, as its discovery document has it.

    Raises:
        KeysUnavailableError: it is another issuer's, or names no address that only this issuer can answer. One that
            speaks HTTPS cannot send us to plain HTTP either, not even on this machine: what listens here is not its.
    """
    url = document.get("jwks_uri")
    if document.get("issuer") != issuer or not isinstance(url, str) or not _is_safe(url) or _is_weaker(url, issuer):
        raise KeysUnavailableError(f"What {issuer} says of itself is not what was expected.")
    return url


def verify_url(url: str, *, setting: str) -> None:
    """Raise `SettingsError` where an address could be answered by anybody on the way."""
    if not _is_safe(url):
        raise SettingsError(f"Expected an https:// address in {setting} (or http:// to this machine); found '{url}'.")


def _is_weaker(url: str, issuer: str) -> bool:
    return urlsplit(issuer).scheme == "https" and urlsplit(url).scheme != "https"


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    )
