"""The pytest plugin: hooks only. What they decide and do is in the rooms beside this module.

Under xdist the controller owns the host and tells the workers its address; workers ask it for servers and hand their
books over at the end. Without xdist one process is both.
"""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from pratique.testkit import fixtures, report
from pratique.testkit.errors import TestkitError
from pratique.testkit.fixtures import KIT, kit_of
from pratique.testkit.guard.plugin import GUARD_MARKERS, add_guard_options, start_guard
from pratique.testkit.host.client import HostClient
from pratique.testkit.host.owner import OwnedHost
from pratique.testkit.host.remains import die_with_parent
from pratique.testkit.host.reuse import ReusedHost, reuse_folder
from pratique.testkit.kit import Books, Kit
from pratique.testkit.options import Options, add_options, read_options
from pratique.testkit.services.catalogue import make_services
from pratique.testkit.services.choice import is_url
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

_HOST: Final = pytest.StashKey[OwnedHost | ReusedHost]()
_RUN: Final = pytest.StashKey[str]()
_WANTED: Final = pytest.StashKey[list[tuple[str, str | None]]]()
_ONLY_SHOW: Final = ("collectonly", "showfixtures", "show_fixtures_per_test", "setupplan")
_COLLECTING: Final = pytest.StashKey[int]()
"""Workers that have not collected yet."""
_OWN_MARKERS: Final = (
    "needs(capability, ...): skip the test where the back end does not show this behaviour as the real service does",
)
MARKERS: Final = (*_OWN_MARKERS, *TIER_MARKERS, *GUARD_MARKERS)
"""All that is registered, here and in the rooms: name and arguments, a colon, what it does."""


def _is_installed() -> bool:
    """Whether the extra is: the distribution brings this plugin to everybody who installs any part of it."""
    return find_spec("ministack") is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini values; nothing where the extra `testkit` is not installed."""
    if _is_installed():
        add_options(parser, make_services())
        add_guard_options(parser)
        add_tier_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the kit of this process; in the controller, the host as well."""
    if not _is_installed():
        return
    for line in _OWN_MARKERS:
        config.addinivalue_line("markers", line)
    services = make_services()
    try:
        options = read_options(config, services, os.environ)
    except TestkitError as error:
        raise pytest.UsageError(str(error)) from error
    start_guard(config, filter(is_url, options.back_ends.values()))
    start_tiers(config, os.environ)
    given = getattr(config, "workerinput", {})
    run, worker = given.get("pratique_run", secrets.token_hex(3)), given.get("workerid", "")
    if given:
        die_with_parent(os.getppid())  # a worker would stay in its test for as long as that takes
    if "pratique_host" in given and options.reuse_seconds is None:
        client = HostClient(Path(given["pratique_host"]))
    else:
        host = config.stash[_HOST] = _make_host(options, given.get("pratique_host"))
        client = host.client
    config.stash[_RUN] = run
    config.stash[KIT] = Kit(services=services, options=options, host=client, run=run, worker=worker)
    config.pluginmanager.register(fixtures, "pratique-fixtures")


def _make_host(options: Options, address: str | None) -> OwnedHost | ReusedHost:
    if options.reuse_seconds is None:
        return OwnedHost()
    folder = Path(address).parent if address else reuse_folder()
    return ReusedHost(folder, idle_seconds=options.reuse_seconds)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist's worker controller is not typed
    """Tell a worker where the host is."""
    stash = node.config.stash
    if KIT in stash:
        stash[_HOST].serve_workers()
        stash[_COLLECTING] = stash.get(_COLLECTING, 0) + 1
        node.workerinput["pratique_host"] = str(stash[KIT].host.address)
        node.workerinput["pratique_run"] = stash[_RUN]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:  # noqa: ANN401 - as above
    """Take in the books of a worker; a worker that crashed has none."""
    del error
    told = getattr(node, "workeroutput", {}).get("pratique_books")
    if told and KIT in node.config.stash:
        kit_of(node.config).books.add(msgspec.json.decode(told, type=Books))


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say who would provide what."""
    if KIT not in config.stash or config.getoption("verbose") < 0:
        return []
    return report.header_lines(kit_of(config))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Have what the collected tests need started, beside the tests that run first."""
    config = session.config
    if KIT in config.stash and not any(config.getoption(option) for option in _ONLY_SHOW):
        wanted = config.stash[_WANTED] = wanted_by(session.items)
        begin_early(config.stash[KIT], wanted)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say what the collected tests need, and how it stands with each."""
    wanted = config.stash.get(_WANTED, None)
    if not wanted or config.getoption("verbose") < 0 or hasattr(config, "workerinput"):
        return []
    kit = config.stash[KIT]
    return report.wanted_lines(kit, wanted, status_soon(kit) if config.stash[_HOST].was_asked() else None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:  # noqa: ANN401 - as above
    """The same, once all workers have collected: they know what is needed, and have asked the host for it."""
    config = node.config
    if KIT not in config.stash:
        return
    config.stash[_COLLECTING] -= 1
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if config.stash[_COLLECTING] or terminal is None or config.getoption("verbose") < 0:
        return
    if config.stash[_HOST].was_asked() and (status := status_soon(config.stash[KIT])):
        terminal.ensure_newline()
        for line in report.started_lines(config.stash[KIT], status):
            terminal.write_line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse back ends that lack what the test needs, before anything is started for it."""
    if KIT not in item.config.stash:
        return
    needed = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    if needed:
        report.refuse_gaps(kit_of(item.config), needed, wanted_by([item]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Attach what the services logged to a failure; count what was skipped because a service is missing."""
    made: Any = yield
    if KIT in item.config.stash:
        kit = kit_of(item.config)
        if made.failed:
            made.sections += report.failure_sections(kit, getattr(item, "funcargs", {}))
        elif made.skipped and made.when == "setup" and kit.books.missing:
            for service in {service for service, _ in wanted_by([item])} & set(kit.books.missing):
                kit.books.refused[service] = kit.books.refused.get(service, 0) + 1
    return made  # type: ignore[no-any-return]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 - not typed
    """Say what was used, what is missing, and what was left behind."""
    if KIT in config.stash:
        for title, lines in report.summary(kit_of(config).books, is_quiet=config.getoption("verbose") < 0):
            terminalreporter.write_sep("=", title)
            for line in lines:
                terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker, hand the books over."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None and KIT in session.config.stash:
        output["pratique_books"] = msgspec.json.encode(kit_of(session.config).books)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the host, where it is this process's."""
    host = config.stash.get(_HOST, None)
    if host is not None:
        host.close()
        del config.stash[_HOST]
