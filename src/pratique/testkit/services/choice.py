"""Which provider serves a run: the words of an argument, a flag, the environment or an ini file, and what is here.

A running server is named by its URL. What it is, and so what it does not show, is known where its provider stands
before the URL: `ministack+http://127.0.0.1:4566`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from pratique.testkit.errors import ServiceMissingError, TestkitUsageError
from pratique.testkit.services.interface import Backend, Found, Provider

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AUTO",
    "Chosen",
    "Given",
    "choose_provider",
    "first_given",
    "is_url",
    "plain_url",
    "read_candidates",
    "read_url",
    "without_password",
]

AUTO: Final = "auto"


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A provider that is here."""

    provider: Provider
    found: Found


@dataclass(frozen=True, kw_only=True)
class Given:
    """A server that runs already."""

    url: str
    provider: Provider | None = None
    """What it is; None where nobody said."""


def is_url(words: str) -> bool:
    """Whether a server is named by its address."""
    return "://" in words


def plain_url(words: str) -> str:
    """Return a URL without the provider before it."""
    return _split_url(words)[1]


def read_url(service: str, providers: Sequence[Provider], words: str) -> Given:
    """Read a URL, or a provider, a plus and a URL.

    Raises:
        TestkitUsageError: the service has no such provider.
    """
    name, url = _split_url(words)
    provider = next((provider for provider in providers if provider.name == name), None)
    if name and provider is None:
        known = ", ".join(provider.name for provider in providers)
        raise TestkitUsageError(
            f"'{name}' before the URL {without_password(url)} is no provider of the service '{service}'.",
            hint=f"Expected one of: {known}; or the URL alone.",
        )
    return Given(url=url, provider=provider)


def _split_url(words: str) -> tuple[str, str]:
    name, plus, url = words.partition("+")
    return (name, url) if plus and "://" not in name else ("", words)


def without_password(url: str) -> str:
    """Return the URL as it may be shown: what is said ends up in logs."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    user, at, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    shown = f"{name}:***{at}{host}" if ":" in user else parts.netloc
    return urlunsplit(parts._replace(netloc=shown))


def first_given(*sources: str | None) -> str:
    """Return the first source that says something: factory argument, flag, environment, ini, in this order."""
    return next((source for source in sources if source), AUTO)


def read_candidates(service: str, providers: Sequence[Provider], words: str) -> list[Provider]:
    """Return the providers that the words allow, in order of preference.

    Raises:
        TestkitUsageError: the words name nothing that the service has.
    """
    if words == AUTO:
        return list(providers)
    candidates = [provider for provider in providers if words in (provider.name, provider.backend.value)]
    if not candidates:
        names = [AUTO, *(backend.value for backend in Backend if backend is not Backend.URL)]
        known = ", ".join([*names, *(provider.name for provider in providers)])
        raise TestkitUsageError(
            f"'{words}' is no back end of the service '{service}'.",
            hint=f"Expected a URL, PROVIDER+URL, or one of: {known}.",
        )
    return candidates


def choose_provider(service: str, candidates: Sequence[Provider]) -> Chosen:
    """Return the first candidate that is on this machine.

    Raises:
        ServiceMissingError: none is; with what each of them said.
    """
    said: list[str] = []
    for provider in candidates:
        try:
            return Chosen(provider=provider, found=provider.find())
        except ServiceMissingError as error:
            hint = f"\n    Hint: {error.hint}" if error.hint else ""
            said.append(f"{provider.name} ({provider.backend}): {error.message}{hint}")
    reasons = "".join(f"\n  - {reason}" for reason in said)
    raise ServiceMissingError(
        f"No back end of '{service}' is here:{reasons}",
        hint=f"Or name a running one: --pratique-{service.replace('_', '-')}=URL.",
    )
