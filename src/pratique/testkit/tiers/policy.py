"""What the tiers are and what they allow: read from words, decided without pytest.

The tier of a test is the nearest of its marks `unit`, `integration`, `staging`, `e2e`; one without such a mark that
uses a service is an integration test. Its speed is the nearest of `fast` and `slow`. How long one test may take is
asked of its call alone: what starts services for it counts against nobody.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.timing import is_number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = [
    "BUDGETS",
    "LIMITS",
    "Order",
    "Place",
    "Speed",
    "Tier",
    "TierOptions",
    "limit_seconds",
    "marked_tier",
    "place_of",
    "rank",
    "read_seconds",
    "read_sla",
    "read_tiers",
    "tiers_before",
]


class Tier(enum.StrEnum):
    """From the cheapest to the dearest; they run in this order."""

    UNIT = "unit"
    INTEGRATION = "integration"
    STAGING = "staging"
    E2E = "e2e"


class Speed(enum.StrEnum):
    """What a test promises."""

    FAST = "fast"
    SLOW = "slow"


class Order(enum.StrEnum):
    """How tests are sorted."""

    TIERS = "tiers"
    """By tier; within a tier as they were, so that what a module shares is made once."""
    SPEED = "speed"
    """By tier, and in it the fast before the others before the slow."""
    OFF = "off"


BUDGETS: Final[Mapping[str, float | None]] = MappingProxyType(
    {"unit": 30.0, "integration": 300.0, "integration.fast": 180.0, "staging": 600.0, "e2e": 600.0}
)
LIMITS: Final[Mapping[str, float | None]] = MappingProxyType(
    {"fast": 1.0, "slow": 60.0, "unit": 1.0, "integration": 10.0, "staging": 60.0, "e2e": 60.0}
)
_TIERS: Final = tuple(Tier)
_SPEED_RANKS: Final = {Speed.FAST: 0, None: 1, Speed.SLOW: 2}
_NO_LIMIT: Final = "none"


@dataclass(frozen=True, kw_only=True)
class TierOptions:
    """What was asked for."""

    order: Order = Order.TIERS
    default: Tier | None = None
    """The tier of tests that have no mark of one."""
    selected: frozenset[Tier] = frozenset()
    """Empty: all."""
    budgets: Mapping[str, float | None] = field(default_factory=lambda: BUDGETS)
    limits: Mapping[str, float | None] = field(default_factory=lambda: LIMITS)
    is_enforced: bool = False
    has_staging: bool = False
    """There is an endpoint for staging tests, so that they run."""
    fail_fast: frozenset[Tier] = frozenset({Tier.UNIT})
    """Once a test of one of these has failed, tests of later tiers are skipped."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a test belongs."""

    tier: Tier | None
    speed: Speed | None = None


def place_of(
    levels: Sequence[Collection[str]], options: TierOptions, *, services: Collection[str], where: str
) -> Place:
    """Return the place of a test.

    Args:
        levels: the names of its marks by where they stand, the nearest first: its own, its class's, its module's.
        options: what was asked for.
        services: what its fixtures use.
        where: its name, for the error.

    Raises:
        TestkitUsageError: marks of one level say different tiers.
    """
    marked = marked_tier(levels, where)
    speed = next((Speed(name) for names in levels for name in names if name in set(Speed)), None)
    return Place(tier=marked or (Tier.INTEGRATION if services else options.default), speed=speed)


def marked_tier(levels: Iterable[Iterable[str]], where: str) -> Tier | None:
    """Return the tier of the nearest level that has a mark of one. A function, its class, its module are levels.

    Raises:
        TestkitUsageError: marks of one level say different tiers.
    """
    for names in levels:
        tiers = [tier for tier in _TIERS if tier in set(names)]
        if len(tiers) > 1:
            raise TestkitUsageError(
                f"{where} is marked {' and '.join(tiers)} in one place.", hint="Expected the mark of one tier."
            )
        if tiers:
            return tiers[0]
    return None


def tiers_before(tier: Tier | None) -> tuple[Tier, ...]:
    """Return the cheaper tiers; none of a test without one."""
    return () if tier is None else _TIERS[: _TIERS.index(tier)]


def rank(place: Place, order: Order) -> tuple[int, int]:
    """Return what to sort by. Tests without a tier come first."""
    tier = -1 if place.tier is None else _TIERS.index(place.tier)
    return tier, _SPEED_RANKS[place.speed] if order is Order.SPEED else 0


def limit_seconds(place: Place, limits: Mapping[str, float | None]) -> float | None:
    """Return how long a test of this place may take; None: as long as it likes. A slow one never less than others."""
    of_tier = None if place.tier is None else limits.get(place.tier)
    if place.speed is None:
        return of_tier
    allowed = limits.get(place.speed)
    if place.speed is Speed.FAST or allowed is None or of_tier is None:
        return allowed
    return max(allowed, of_tier)


def read_seconds(text: str, defaults: Mapping[str, float | None], where: str) -> Mapping[str, float | None]:
    """Read `unit=30, integration=300` (commas or lines; `none`: no limit) over the defaults.

    Raises:
        TestkitUsageError: a name is unknown, or a value is no number of seconds above zero.
    """
    read = dict(defaults)
    for entry in filter(None, (part.strip() for line in text.splitlines() for part in line.split(","))):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if name not in defaults or not equals:
            raise TestkitUsageError(
                f"{where} says '{entry}'.", hint=f"Expected NAME=SECONDS, with NAME one of: {', '.join(defaults)}."
            )
        read[name] = None if value == _NO_LIMIT else _above_zero(value, f"{where} says '{entry}'.")
    return read


def _above_zero(value: str, problem: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if seconds <= 0 or not is_number(seconds):
        raise TestkitUsageError(problem, hint=f"Expected seconds above zero, or {_NO_LIMIT}.")
    return seconds


def read_tiers(text: str, where: str) -> frozenset[Tier]:
    """Read `unit,integration`.

    Raises:
        TestkitUsageError: a name is no tier.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in _TIERS]
    if unknown:
        raise TestkitUsageError(
            f"{where} names no tier: '{', '.join(unknown)}'.", hint=f"Expected one of: {', '.join(_TIERS)}."
        )
    return frozenset(Tier(name) for name in names)


def read_sla(arguments: tuple[object, ...], options: Mapping[str, object], where: str) -> float:
    """Read the mark `sla(seconds=2.0)`.

    Raises:
        TestkitUsageError: it is anything else.
    """
    seconds = options.get("seconds")
    if arguments or set(options) != {"seconds"} or not is_number(seconds) or not isinstance(seconds, int | float):
        shown = ", ".join([*map(repr, arguments), *(f"{name}={value!r}" for name, value in options.items())])
        raise TestkitUsageError(f"{where} is marked sla({shown}).", hint="Expected sla(seconds=2.0).")
    if seconds <= 0:
        raise TestkitUsageError(f"{where} is marked sla(seconds={seconds!r}).", hint="Expected seconds above zero.")
    return float(seconds)
