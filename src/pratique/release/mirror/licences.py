"""Whether a licence may be approved. Pure. Source: SPDX licence expressions (SPDX 2.3, Annex D)."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from license_expression import Licensing

__all__ = ["is_licence", "licence_fault", "same_licence"]

_MAX_LENGTH: Final = 2000


def is_licence(expression: str) -> bool:
    """Whether this is an SPDX expression."""
    return len(expression) <= _MAX_LENGTH and _parse(expression) is not None


def licence_fault(expression: str, allowed: Collection[str]) -> str | None:
    """Say why a licence may not be approved; None: it may. Of OR one side must be allowed, of AND both."""
    if len(expression) > _MAX_LENGTH:
        return "is too long"
    parsed = _parse(expression)
    if parsed is None:
        return f"'{expression}' is no SPDX expression"
    if not _is_allowed(parsed, frozenset(allowed)):
        return f"'{expression}' is not among the licences that may be approved"
    return None


def same_licence(one: str, other: str) -> bool | None:
    """Whether two expressions mean the same; None: one of them is no SPDX expression, as many projects have it."""
    first, second = _parse(one), _parse(other)
    if first is None or second is None:
        return None
    return bool(first.simplify() == second.simplify())  # type: ignore[attr-defined]  # the library has no types


def _is_allowed(parsed: object, allowed: frozenset[str]) -> bool:
    from license_expression import LicenseSymbol, LicenseWithExceptionSymbol

    if isinstance(parsed, LicenseWithExceptionSymbol):
        # An exception allows more than its licence; it may also be listed by itself.
        named = parsed.render("{symbol.key}")
        return named in allowed or parsed.license_symbol.key in allowed
    if isinstance(parsed, LicenseSymbol):
        return parsed.key in allowed
    sides = [_is_allowed(one, allowed) for one in parsed.args]  # type: ignore[attr-defined]  # OR and AND
    return any(sides) if type(parsed).__name__ == "OR" else all(sides)


@functools.lru_cache(maxsize=4096)
def _parse(expression: str) -> object | None:
    from license_expression import ExpressionError

    try:
        found: object | None = _licensing().parse(expression, validate=True, strict=True)
    except ExpressionError:
        return None
    return found


@functools.cache
def _licensing() -> Licensing:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
