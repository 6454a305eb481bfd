"""The plugin's flags and ini values, read once into one frozen value.

A service's back end is taken from the first of: the factory's argument, the flag `--pratique-NAME`, the environment
variable `PRATIQUE_TEST_NAME`, the ini value `pratique_NAME`; else the first provider that is here.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.services.choice import AUTO, first_given, is_url, plain_url, read_candidates, read_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    import pytest

    from pratique.testkit.services.interface import Service

__all__ = ["LeakMode", "Options", "add_options", "given_urls", "known_flags", "read_options"]

_REUSE_IDLE_SECONDS: Final = 600.0


class LeakMode(enum.StrEnum):
    """What becomes of a leak: nothing, a line in the summary, a failed test."""

    OFF = "off"
    REPORT = "report"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for."""

    back_ends: Mapping[str, str]
    """Service → URL, back end, provider or `auto`."""
    is_required: bool = False
    """A service that is missing fails its tests instead of skipping them."""
    leaks: LeakMode = LeakMode.REPORT
    reuse_seconds: float | None = None
    """Servers outlive the run, until nobody has used them for so long. None: they end with it."""


def add_options(parser: pytest.Parser, services: Iterable[str]) -> None:
    """Declare flags and ini values."""
    group = parser.getgroup("pratique", "pratique: real dependencies")
    for name in services:
        where = (
            "URL or PROVIDER+URL of a running one, or a back end: auto, process, container, or a provider's name "
            f"(service {name})"
        )
        group.addoption(f"--pratique-{name.replace('_', '-')}", dest=f"pratique_{name}", metavar="WHERE", help=where)
        parser.addini(f"pratique_{name}", where, default="")
    group.addoption(
        "--pratique-require",
        action="store_true",
        default=None,
        help="Fail tests whose service is missing, instead of skipping them.",
    )
    parser.addini("pratique_require", "As --pratique-require.", type="bool", default=False)
    modes = [mode.value for mode in LeakMode]
    group.addoption(
        "--pratique-leaks", choices=modes, help="What becomes of what a test leaves behind: off, report, error."
    )
    parser.addini("pratique_leaks", "As --pratique-leaks.", default=LeakMode.REPORT.value)
    group.addoption(
        "--pratique-reuse",
        action="store_true",
        help="Keep servers for the next runs, until they have been idle for ten minutes. "
        "`pratique testkit down` ends them.",
    )
    group.addoption(
        "--pratique-reuse-seconds",
        type=float,
        metavar="SECONDS",
        help="As --pratique-reuse, until they have been idle for so long.",
    )


def read_options(
    config: pytest.Config, services: Mapping[str, Service[Any]], environment: Mapping[str, str]
) -> Options:
    """Read them.

    Raises:
        TestkitUsageError: a value means nothing.
    """
    leaks = str(config.getoption("pratique_leaks") or config.getini("pratique_leaks"))
    if leaks not in set(LeakMode):
        raise TestkitUsageError(
            f"The ini value pratique_leaks is '{leaks}'.", hint=f"Expected one of: {', '.join(LeakMode)}."
        )
    reuse = config.getoption("pratique_reuse_seconds")
    if reuse is None and config.getoption("pratique_reuse"):
        reuse = _REUSE_IDLE_SECONDS
    if reuse is not None and not 0 < reuse < math.inf:
        raise TestkitUsageError(f"--pratique-reuse-seconds is {reuse}.", hint="Expected a number of seconds above 0.")
    back_ends = _given_back_ends(config, services, environment, config.getoption)
    for name, words in back_ends.items():
        if words != AUTO:  # to look a service up is to import it
            read = read_url if is_url(words) else read_candidates
            read(name, services[name].providers, words)  # says what is wrong with them
    require = config.getoption("pratique_require")
    return Options(
        back_ends=back_ends,
        is_required=bool(config.getini("pratique_require") if require is None else require),
        leaks=LeakMode(leaks),
        reuse_seconds=reuse,
    )


def known_flags(config: pytest.Config) -> dict[str, Any]:
    """Return the flags, as far as they are known: `getoption` knows none before the conftests are loaded."""
    # Before the conftests `config.option` has defaults only; the others lack what a conftest brought in.
    return {**vars(config.option), **vars(config.known_args_namespace)}


def given_urls(config: pytest.Config, services: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Return the URLs among the back ends, and judge nothing. They are known before the conftests are."""
    given = _given_back_ends(config, services, environment, known_flags(config).get)
    return [plain_url(words) for words in given.values() if is_url(words)]


def _given_back_ends(
    config: pytest.Config, services: Iterable[str], environment: Mapping[str, str], flag: Callable[[str], Any]
) -> dict[str, str]:
    return {
        name: first_given(
            flag(f"pratique_{name}"),
            environment.get(f"PRATIQUE_TEST_{name.upper()}"),
            str(config.getini(f"pratique_{name}")),
        )
        for name in services
    }
