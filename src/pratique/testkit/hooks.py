"""The pytest plugin: hooks only. What they decide and do is in the rooms beside this module.

Under xdist the controller owns the host and tells the workers its address; workers ask it for servers and hand their
books over at the end. Without xdist one process is both. Nothing of either is imported before a test needs it.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

from pratique.testkit import fixtures, report
from pratique.testkit.errors import TestkitError
from pratique.testkit.fixtures import SESSION, kit_of, missing_behind, shorten_next
from pratique.testkit.guard.plugin import GUARD_MARKERS, add_guard_options, start_guard
from pratique.testkit.options import add_options, given_urls, read_options
from pratique.testkit.services.catalogue import SERVICES, make_services
from pratique.testkit.session import KitSession
from pratique.testkit.startup import begin_early, status_soon, wanted_by
from pratique.testkit.tiers.plugin import TIER_MARKERS, add_tier_options, start_tiers

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MARKERS",
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_load_initial_conftests",
    "pytest_report_collectionfinish",
    "pytest_report_header",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
    "pytest_xdist_node_collection_finished",
]

_WANTED: Final = pytest.StashKey[list[tuple[str, str | None]]]()
_ONLY_SHOW: Final = ("collectonly", "showfixtures", "show_fixtures_per_test", "setupplan")
_COLLECTING: Final = pytest.StashKey[int]()
"""Workers that have not collected yet."""
_OWN_MARKERS: Final = (
    "needs(capability, ...): skip the test where the back end does not show this behaviour as the real service does",
)
MARKERS: Final = (*_OWN_MARKERS, *TIER_MARKERS, *GUARD_MARKERS)
"""All that is registered, here and in the rooms: name and arguments, a colon, what it does."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini values."""
    add_options(parser, SERVICES)
    add_guard_options(parser)
    add_tier_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Guard the session before a conftest is imported; workers call this too."""
    start_guard(early_config, given_urls(early_config, SERVICES, os.environ))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options, guard the session where that was not done, and have the fixtures."""
    for line in _OWN_MARKERS:
        config.addinivalue_line("markers", line)
    try:
        options = read_options(config, make_services(), os.environ)
    except TestkitError as error:
        raise pytest.UsageError(str(error)) from error
    start_guard(config, given_urls(config, SERVICES, os.environ))
    start_tiers(config, os.environ)
    given = getattr(config, "workerinput", {})
    config.stash[SESSION] = KitSession(
        options,
        run=given.get("pratique_run", secrets.token_hex(3)),
        worker=given.get("workerid", ""),
        address=given.get("pratique_host", ""),
        controller=given.get("pratique_controller", 0),
    )
    config.stash[SESSION].end_with_controller()
    config.pluginmanager.register(fixtures, "pratique-fixtures")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist's worker controller is not typed
    """Tell a worker where the host is."""
    stash = node.config.stash
    if SESSION in stash:
        stash[_COLLECTING] = stash.get(_COLLECTING, 0) + 1
        node.workerinput["pratique_host"] = stash[SESSION].serve_workers()
        node.workerinput["pratique_run"] = stash[SESSION].run
        node.workerinput["pratique_controller"] = os.getpid()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:  # noqa: ANN401 - as above
    """Take in the books of a worker; a worker that crashed has none."""
    del error
    told = getattr(node, "workeroutput", {}).get("pratique_books")
    if told and SESSION in node.config.stash:
        kit_of(node.config).take_books(told)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what was asked for."""
    if SESSION not in config.stash or config.getoption("verbose") < 0:
        return []
    return report.header_lines(config.stash[SESSION].options.back_ends)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Have what the collected tests need started, beside the tests that run first."""
    config = session.config
    if SESSION in config.stash and not any(config.getoption(option) for option in _ONLY_SHOW):
        try:
            wanted = config.stash[_WANTED] = wanted_by(session.items)
        except TestkitError as error:
            if hasattr(config, "workerinput"):
                return  # xdist takes a usage error of a worker for a crash; the fixture itself fails
            raise pytest.UsageError(str(error)) from error
        if wanted:
            begin_early(kit_of(config), wanted)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say what the collected tests need, and how it stands with each."""
    wanted = config.stash.get(_WANTED, None)
    if not wanted or config.getoption("verbose") < 0 or hasattr(config, "workerinput"):
        return []
    kit = kit_of(config)
    return report.wanted_lines(kit, wanted, status_soon(kit) if config.stash[SESSION].was_host_asked else None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:  # noqa: ANN401 - as above
    """The same, once all workers have collected: they know what is needed, and have asked the host for it."""
    config = node.config
    if SESSION not in config.stash:
        return
    config.stash[_COLLECTING] -= 1
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if config.stash[_COLLECTING] or terminal is None or config.getoption("verbose") < 0:
        return
    if config.stash[SESSION].was_host_asked and (status := status_soon(kit_of(config))):
        terminal.ensure_newline()
        for line in report.started_lines(kit_of(config), status):
            terminal.write_line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse back ends that lack what the test needs, before anything is started for it."""
    if SESSION not in item.config.stash:
        return
    if _has_kit(item.config):
        kit_of(item.config).begin_test()
    needed = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    if needed:
        report.refuse_gaps(kit_of(item.config), needed, wanted_by([item]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Attach what the services logged to a failure; count what is skipped, or fails, as a service is missing."""
    made: Any = yield
    if not _has_kit(item.config):
        return made  # type: ignore[no-any-return]
    kit = kit_of(item.config)
    if made.failed:
        made.sections += report.failure_sections(kit, getattr(item, "funcargs", {}))
    if call.excinfo is not None:
        from pratique.testkit.kit import LeakError

        if isinstance(call.excinfo.value, LeakError):  # its frames are the kit's own
            made.longrepr = call.excinfo.getrepr(style="value", chain=False)
        if service := missing_behind(call.excinfo.value):
            kit.books.refused[service] = kit.books.refused.get(service, 0) + 1
        shorten_next(call.excinfo.value, item.nodeid)
    return made  # type: ignore[no-any-return]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 - not typed
    """Say what was used, what is missing, and what was left behind."""
    if _has_kit(config):
        kit, is_quiet = kit_of(config), config.getoption("verbose") < 0
        for title, lines in report.summary(kit.books, is_quiet=is_quiet, is_required=kit.options.is_required):
            terminalreporter.write_sep("=", title)
            for line in lines:
                terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker, hand the books over."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None and _has_kit(session.config):
        output["pratique_books"] = kit_of(session.config).give_books()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the host, where it is this process's."""
    if SESSION in config.stash:
        config.stash[SESSION].close()
        del config.stash[SESSION]


def _has_kit(config: pytest.Config) -> bool:
    return SESSION in config.stash and config.stash[SESSION].has_kit
