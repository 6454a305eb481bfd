"""The hooks of the tiers. Marks are read once for each test, when it is collected; reports carry its place.

Under xdist the workers sort (all alike), hold tests to their limits and skip the later tiers once one has failed; the
controller, which sees every report, adds up and holds the tiers to their budgets.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pratique.testkit.errors import TestkitError, TestkitUsageError
from pratique.testkit.startup import wanted_by
from pratique.testkit.tiers.failures import FailedTiers
from pratique.testkit.tiers.ledger import Ledger, Phase, over_limit
from pratique.testkit.tiers.policy import (
    BUDGETS,
    LIMITS,
    Order,
    Place,
    Speed,
    Tier,
    TierOptions,
    place_of,
    rank,
    read_seconds,
    read_sla,
    read_tiers,
    tiers_before,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["TIER_MARKERS", "TierBooks", "TierHooks", "add_tier_options", "read_tier_options", "start_tiers"]

TIER_MARKERS: Final = (
    "unit: needs nothing outside its process; runs first",
    "integration: needs real services, started for the run",
    "staging: needs a real endpoint; skipped unless --pratique-staging says that there is one",
    "e2e: needs the whole stack; runs last",
    "fast: its call ends within a second (ini pratique_limits)",
    "slow: its call may take a minute (ini pratique_limits)",
    "sla(seconds): the test fails if its call takes longer",
)
_PLACE: Final = pytest.StashKey[Place]()
_SLA: Final = pytest.StashKey[float]()
_PROBLEM: Final = pytest.StashKey[str]()
"""Marks that mean nothing, in a worker."""
_REMARK: Final = pytest.StashKey[str]()
"""Marks that are not true."""
_REPORTED: Final = "pratique_place"
_PHASES: Final = frozenset({"setup", "call", "teardown"})
_TRUE: Final = frozenset({"1", "true", "yes", "on"})


def add_tier_options(parser: pytest.Parser) -> None:
    """Declare flags and ini values."""
    group = parser.getgroup("pratique", "pratique: real dependencies")
    group.addoption("--pratique-tier", metavar="TIERS", help="Run these tiers only: unit,integration,staging,e2e.")
    budgets = "Seconds that tiers may take, as unit=30,integration.fast=180; none: no limit."
    group.addoption("--pratique-budgets", metavar="TIER=SECONDS", help=budgets)
    parser.addini("pratique_budgets", budgets, default="", type="string")
    limits = "Seconds that one test's call may take, as fast=1,unit=1,slow=60; none: no limit."
    parser.addini("pratique_limits", limits, default="", type="string")
    enforce = "Fail tests that take longer than they may, and the run where a tier takes longer than its budget."
    group.addoption("--pratique-enforce", action="store_true", default=None, help=enforce)
    parser.addini("pratique_enforce", enforce, type="bool", default=False)
    staging = "There is an endpoint for the staging tests: run them."
    group.addoption("--pratique-staging", action="store_true", default=None, help=staging)
    parser.addini("pratique_staging", staging, type="bool", default=False)
    parser.addini("pratique_order", "Sort tests: tiers, speed (within tiers too) or off.", default=Order.TIERS.value)
    parser.addini("pratique_tier_default", "The tier of tests without a mark of one.", default="")
    fail_fast = "Tiers of which a failed test keeps later tiers from running, as unit,integration; empty: none."
    parser.addini("pratique_fail_fast", fail_fast, default=Tier.UNIT.value)


def read_tier_options(config: pytest.Config, environment: Mapping[str, str]) -> TierOptions:
    """Read them.

    Raises:
        TestkitUsageError: a value means nothing.
    """
    order = str(config.getini("pratique_order"))
    if order not in set(Order):
        raise TestkitUsageError(f"The ini value pratique_order is '{order}'.", hint=f"Expected: {', '.join(Order)}.")
    default = read_tiers(str(config.getini("pratique_tier_default")), "The ini value pratique_tier_default")
    if len(default) > 1:
        raise TestkitUsageError("The ini value pratique_tier_default names several tiers.", hint="Expected one.")
    selected = read_tiers(config.getoption("pratique_tier") or "", "--pratique-tier")
    budgets = read_seconds(str(config.getini("pratique_budgets")), BUDGETS, "The ini value pratique_budgets")
    enforce, staging = config.getoption("pratique_enforce"), config.getoption("pratique_staging")
    in_environment = environment.get("PRATIQUE_TEST_STAGING", "").lower() in _TRUE
    return TierOptions(
        order=Order(order),
        default=next(iter(default), None),
        selected=selected,
        budgets=read_seconds(config.getoption("pratique_budgets") or "", budgets, "--pratique-budgets"),
        limits=read_seconds(str(config.getini("pratique_limits")), LIMITS, "The ini value pratique_limits"),
        is_enforced=bool(config.getini("pratique_enforce") if enforce is None else enforce),
        has_staging=bool(staging or in_environment or config.getini("pratique_staging") or Tier.STAGING in selected),
        fail_fast=read_tiers(str(config.getini("pratique_fail_fast")), "The ini value pratique_fail_fast"),
    )


def start_tiers(config: pytest.Config, environment: Mapping[str, str]) -> None:
    """Register the marks and the hooks. An option that means nothing ends the run as pytest's own do."""
    for line in TIER_MARKERS:
        config.addinivalue_line("markers", line)
    try:
        options = read_tier_options(config, environment)
    except TestkitError as error:
        raise pytest.UsageError(str(error)) from error
    if options.order is not Order.OFF and hasattr(config.option, "loadscopereorder"):
        # xdist's loadfile and loadscope hand out the largest files first, unless told to keep the order.
        config.option.loadscopereorder = False
    is_worker = hasattr(config, "workerinput")
    # xdist gives each worker on this machine a folder in that of the run.
    folder = Path(config.option.basetemp).parent if is_worker and config.option.basetemp else None
    config.pluginmanager.register(TierHooks(options, FailedTiers(folder)), "pratique-tiers")
    if not is_worker:  # the controller gets every report
        config.pluginmanager.register(TierBooks(config, options), "pratique-tier-books")


class TierHooks:
    """Where tests run: sorts them, holds them to their time."""

    def __init__(self, options: TierOptions, failed: FailedTiers) -> None:
        self._options = options
        self._failed = failed

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Read the marks, select, sort."""
        options = self._options
        for item in items:
            self._read(item)
        if options.selected:
            left_out = [item for item in items if item.stash[_PLACE].tier not in options.selected]
            items[:] = [item for item in items if item.stash[_PLACE].tier in options.selected]
            if left_out:
                config.hook.pytest_deselected(items=left_out)
        if options.order is not Order.OFF:
            items.sort(key=lambda item: rank(item.stash[_PLACE], options.order))

    def _read(self, item: pytest.Item) -> None:
        try:
            self._read_marks(item)
        except TestkitError as error:
            if not hasattr(item.config, "workerinput"):
                raise pytest.UsageError(str(error)) from error
            item.stash[_PROBLEM] = str(error)  # xdist takes a usage error of a worker for a crash, and tells nothing
            item.stash.setdefault(_PLACE, Place(tier=None))

    def _read_marks(self, item: pytest.Item) -> None:
        marks = itertools.groupby(item.iter_markers_with_node(), lambda one: one[0])
        levels = [[mark.name for _, mark in group] for _, group in marks]
        services = list(dict.fromkeys(service for service, _ in wanted_by([item])))
        place = item.stash[_PLACE] = place_of(levels, self._options, services=services, where=item.nodeid)
        if place.tier is Tier.UNIT and services:
            item.stash[_REMARK] = f"marked unit, uses {', '.join(services)}"
        if place.tier is Tier.STAGING and not self._options.has_staging:
            item.add_marker(pytest.mark.skip(reason="staging: pass --pratique-staging where there is an endpoint"))
        if sla := item.get_closest_marker("sla"):
            item.stash[_SLA] = read_sla(sla.args, sla.kwargs, item.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse, before anything is started for it, what is marked wrong or comes after a tier that failed."""
        if problem := item.stash.get(_PROBLEM, None):
            pytest.fail(problem, pytrace=False)
        if self._options.is_enforced and (remark := item.stash.get(_REMARK, None)):
            pytest.fail(f"{remark} (pratique_enforce)", pytrace=False)
        place = item.stash.get(_PLACE, Place(tier=None))
        earlier = [tier for tier in tiers_before(place.tier) if tier in self._options.fail_fast]
        if failed := self._failed.first_of(earlier):
            pytest.skip(f"the {failed} tier failed")

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Hold a test that passed to its time."""
        sla = item.stash.get(_SLA, None)
        started = time.perf_counter()
        result = yield
        seconds = time.perf_counter() - started
        if sla is not None and seconds > sla:
            pytest.fail(f"sla: expected the call within {sla:g} s, it took {seconds:.3f} s", pytrace=False)
        if self._options.is_enforced and _PLACE in item.stash:
            problem = over_limit(item.stash[_PLACE], seconds, self._options)
            if problem:
                pytest.fail(f"{problem} (pratique_enforce)", pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Let the report say where its test belongs."""
        made: Any = yield
        place = item.stash.get(_PLACE, None)
        if place is not None and (place.tier or place.speed):
            tier, speed = place.tier and place.tier.value, place.speed and place.speed.value
            setattr(made, _REPORTED, (tier, speed, item.stash.get(_REMARK, "")))
        return made  # type: ignore[no-any-return]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a tier has failed. The report may say otherwise when it is made: plugins run tests again."""
        tier = Tier(told[0]) if (told := getattr(report, _REPORTED, None)) and told[0] else None
        if report.failed and tier in self._options.fail_fast:
            self._failed.add(tier)


class TierBooks:
    """Where reports come together: adds up, holds tiers to their budgets."""

    def __init__(self, config: pytest.Config, options: TierOptions) -> None:
        self._config = config
        self._options = options
        self._ledger = Ledger(options)
        self._begun: dict[str, pytest.TestReport] = {}
        """The set-up of each test that has not ended: a worker that crashes in one says nothing more of it."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up."""
        told, times = getattr(report, _REPORTED, None), report
        if report.when not in _PHASES:  # xdist reports "???" of a test that took its worker with it
            times = self._begun.pop(report.nodeid, report)
            told = getattr(times, _REPORTED, None)
            if told is None:
                self._ledger.note_crash(report.nodeid)
        if told is None:
            return
        if report.when == "setup":
            self._begun[report.nodeid] = report
        elif report.when == "teardown":
            self._begun.pop(report.nodeid, None)
        tier, speed, remark = told
        category = self._config.hook.pytest_report_teststatus(report=report, config=self._config)[0]
        self._ledger.add(
            Phase(
                test=report.nodeid,
                place=Place(tier=tier and Tier(tier), speed=speed and Speed(speed)),
                is_call=report.when == "call",
                category=category,
                start=times.start,
                stop=times.stop,
                seconds=report.duration,
                remark=remark,
            )
        )

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run, where budgets are enforced."""
        if self._options.is_enforced and self._ledger.overruns() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:  # noqa: ANN401 - not typed
        """Say what each tier took, and who was late."""
        lines, overruns = self._ledger.lines(), self._ledger.overruns()
        if self._options.selected and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            lines = self._nothing_selected()
        if lines:
            terminalreporter.write_sep("=", "tiers")
            for line in lines:
                terminalreporter.write_line(line)
        if overruns and self._options.is_enforced:
            said = f"FAILED: over budget (pratique_enforce): {'; '.join(overruns)}"
            terminalreporter.write_line(said, red=True, bold=True)

    def _nothing_selected(self) -> list[str]:
        said = f"--pratique-tier={','.join(sorted(self._options.selected))} selected no test"
        if self._options.default is not None:
            return [said]
        return [
            f"{said}: those without a mark of a tier belong to none, unless the ini value pratique_tier_default says so"
        ]
