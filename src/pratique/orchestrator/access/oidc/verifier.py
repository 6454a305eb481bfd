"""From a bearer token to its principal, over all the issuers that are trusted.

    1  form: its parts, its header                  (token)
    2  issuer: one that is configured, by its exact name
    3  algorithm: one that this issuer may use
    4  signature: by one of the issuer's keys       (keys, source)
    5  claims: audience, time, subject, scopes      (claims)

`prepare` does what has to be waited for; `verify` then decides at once, out of what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pratique.core.errors import EnvironmentFaultError
from pratique.core.settings import SettingsError
from pratique.orchestrator.access.errors import UnauthenticatedError
from pratique.orchestrator.access.oidc.claims import principal_of_claims
from pratique.orchestrator.access.oidc.source import KeySource, verify_url
from pratique.orchestrator.access.oidc.token import parse_token, refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

    from pratique.core.clock import Clock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.access.oidc.token import ParsedToken
    from pratique.orchestrator.access.principal import Principal
    from pratique.orchestrator.access.settings import OidcSettings

__all__ = ["MissingPackageError", "TokenVerifier"]


class MissingPackageError(EnvironmentFaultError):
    """Tokens are configured, and what verifies them is not installed."""

    code = "missing_part"


class TokenVerifier:
    """Verifies tokens of the configured issuers."""

    def __init__(
        self, issuers: Sequence[OidcSettings], http: aiohttp.ClientSession, *, clock: Clock, metrics: Metrics
    ) -> None:
        """Take the issuers.

        Raises:
            SettingsError: one is named twice, or its address is not safe.
            MissingPackageError: PyJWT with cryptography is not installed.
        """
        _verify_packages()
        for settings in issuers:
            verify_url(settings.issuer, setting="oidc.issuer")
            if settings.jwks_url:
                verify_url(settings.jwks_url, setting="oidc.jwks_url")
        self._clock = clock
        self._settings = {settings.issuer: settings for settings in issuers}
        if len(self._settings) != len(issuers):
            raise SettingsError("An issuer is named twice in [[orchestrator.access.oidc]].")
        self._sources = {
            settings.issuer: KeySource(settings, http, clock=clock, metrics=metrics) for settings in issuers
        }

    async def prepare(self, text: str) -> None:
        """Get what `verify` needs for this token, where it may be had. Does not raise."""
        try:
            token = self._parsed(text)
        except UnauthenticatedError:
            return
        await self._sources[token.issuer].prepare(token)

    def verify(self, text: str) -> Principal:
        """Return the token's principal.

        Raises:
            UnauthenticatedError: it does not hold.
            KeysUnavailableError: its issuer's keys cannot be had.
        """
        token = self._parsed(text)
        self._sources[token.issuer].keys.verify(token)
        return principal_of_claims(token.claims, self._settings[token.issuer], now=self._clock.epoch())

    async def aclose(self) -> None:
        """End what is being fetched."""
        for source in self._sources.values():
            await source.aclose()

    def _parsed(self, text: str) -> ParsedToken:
        token = parse_token(text)
        settings = self._settings.get(token.issuer)
        if settings is None or token.algorithm not in settings.algorithms:
            raise refused()
        return token


def _verify_packages() -> None:
    try:
        import cryptography
        import jwt
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"Bearer tokens need the package '{error.name}', which is not installed.",
            hint="pip install 'pratique[orchestrator]'",
        ) from error
    del cryptography, jwt
