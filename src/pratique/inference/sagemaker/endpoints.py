"""Which model server stands behind an endpoint's name. Pure, but for the turns that are counted.

An endpoint has one or more production variants. Each takes its weight's share of the calls: SageMaker draws by chance,
here the variants take turns (smooth weighted round robin), so that any ten calls of weights 9 and 1 are nine and one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pratique.core.errors import CallerError
from pratique.inference.sagemaker.faults import unavailable, validation_error

__all__ = ["ACCOUNT", "Endpoints", "InvalidEndpointError", "Variant", "parse_endpoints"]

ACCOUNT: Final = "000000000000"
"""Stands where SageMaker names the caller's account."""
_DEFAULT_VARIANT: Final = "AllTraffic"
_NAME: Final = r"[a-zA-Z0-9](?:-*[a-zA-Z0-9])*"
_SPEC: Final = re.compile(
    rf"(?P<endpoint>{_NAME})(?:/(?P<variant>{_NAME}))?(?::(?P<weight>[0-9]+(?:\.[0-9]+)?))?=(?P<url>.+)"
)
_MAX_NAME: Final = 63


class InvalidEndpointError(CallerError):
    """An endpoint was not given as NAME=URL or NAME/VARIANT:WEIGHT=URL."""

    code = "invalid_endpoint"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One model server of an endpoint."""

    endpoint: str
    name: str
    url: str
    """Without a slash at the end; `/invocations` is below it."""
    weight: float = 1.0
    """Its share is this over the sum; 0 takes only calls that name it."""


class Endpoints:
    """All endpoints, and whose turn it is."""

    def __init__(self, variants: Sequence[Variant]) -> None:
        self._variants: dict[str, dict[str, Variant]] = {}
        for variant in variants:
            self._variants.setdefault(variant.endpoint, {})[variant.name] = variant
        self._credits = {(variant.endpoint, variant.name): 0.0 for variant in variants}

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All of them, in the order in which they were given."""
        return tuple(variant for named in self._variants.values() for variant in named.values())

    def choose(self, endpoint: str, target: str | None = None) -> Variant:
        """Return the variant that takes the next call of an endpoint; `target` names one.

        Raises:
            FaultError: there is no such endpoint or variant (ValidationError), or no variant takes traffic.
        """
        named = self._variants.get(endpoint)
        if named is None:
            raise validation_error(f"Endpoint {endpoint} of account {ACCOUNT} not found.")
        if target is None:
            return self._next(endpoint, list(named.values()))
        if target not in named:
            raise validation_error(f"Variant {target} not found for endpoint {endpoint}; it has: {', '.join(named)}.")
        return named[target]

    def _next(self, endpoint: str, variants: list[Variant]) -> Variant:
        total = sum(variant.weight for variant in variants)
        if not total:
            raise unavailable(f"All variants of endpoint {endpoint} have the weight 0.")
        for variant in variants:
            self._credits[endpoint, variant.name] += variant.weight
        chosen = max(variants, key=lambda variant: self._credits[endpoint, variant.name])
        self._credits[endpoint, chosen.name] -= total
        return chosen


def parse_endpoints(specs: Sequence[str]) -> Endpoints:
    """Read endpoints given as NAME=URL, or NAME/VARIANT:WEIGHT=URL once for each variant.

    Raises:
        InvalidEndpointError: one is not of that form, or comes twice, or there is none.
    """
    variants = [_parse(spec) for spec in specs]
    seen: set[tuple[str, str]] = set()
    for variant in variants:
        if (variant.endpoint, variant.name) in seen:
            raise InvalidEndpointError(
                f"The endpoint '{variant.endpoint}' has the variant '{variant.name}' twice.",
                hint="Name the variants: --endpoint chat/blue=http://… --endpoint chat/green=http://…",
            )
        seen.add((variant.endpoint, variant.name))
    if not variants:
        raise InvalidEndpointError(
            "No endpoint was given.", hint="Give at least one: --endpoint chat=http://127.0.0.1:8081"
        )
    return Endpoints(variants)


def _parse(spec: str) -> Variant:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise InvalidEndpointError(
            f"Expected an endpoint as NAME=URL or NAME/VARIANT:WEIGHT=URL, found '{spec}'.",
            hint="Names are letters and digits, with hyphens between: --endpoint chat=http://127.0.0.1:8081",
        )
    endpoint, name = match["endpoint"], match["variant"] or _DEFAULT_VARIANT
    if max(len(endpoint), len(name)) > _MAX_NAME:
        raise InvalidEndpointError(f"The names in '{spec}' may have {_MAX_NAME} characters at most.")
    return Variant(endpoint=endpoint, name=name, url=_read_url(match["url"]), weight=float(match["weight"] or 1))


def _read_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole, parts = False, urlsplit("")
    if not is_whole or parts.username or parts.query or parts.fragment:
        raise InvalidEndpointError(
            f"Expected the address of a model server, found '{text}'.", hint="For example http://127.0.0.1:8081"
        )
    return text.rstrip("/")
