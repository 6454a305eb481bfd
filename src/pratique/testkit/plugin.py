"""The pytest plugin: hooks only. What they decide and do is in the rooms beside this module.

Under xdist the controller owns the host and tells the workers its address; workers ask it for servers and hand their
books over at the end. Without xdist one process is both.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from pratique.testkit import fixtures, report
from pratique.testkit.errors import TestkitError
from pratique.testkit.fixtures import KIT, kit_of, server_of
from pratique.testkit.host.client import HostClient
from pratique.testkit.host.owner import OwnedHost, ReusedHost
from pratique.testkit.kit import Books, Kit
from pratique.testkit.options import Options, add_options, read_options
from pratique.testkit.services.catalogue import make_services
from pratique.testkit.services.choice import is_url
from pratique.testkit.services.interface import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_report_header",
    "pytest_runtest_makereport",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
]

_HOST: Final = pytest.StashKey[OwnedHost | ReusedHost]()
_RUN: Final = pytest.StashKey[str]()
_MARKERS: Final = (
    "needs(capability, ...): skip the test where the back end does not show this behaviour as the real service does",
)


def _is_installed() -> bool:
    """Whether the extra is: the distribution brings this plugin to everybody who installs any part of it."""
    return find_spec("ministack") is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare flags and ini values; nothing where the extra `testkit` is not installed."""
    if _is_installed():
        add_options(parser, make_services())


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the kit of this process; in the controller, the host as well."""
    if not _is_installed():
        return
    for line in _MARKERS:
        config.addinivalue_line("markers", line)
    services = make_services()
    try:
        options = read_options(config, services, os.environ)
    except TestkitError as error:
        raise pytest.UsageError(str(error)) from error
    given = getattr(config, "workerinput", {})
    if "pratique_host" in given:
        host, run, worker = HostClient(Path(given["pratique_host"])), given["pratique_run"], given["workerid"]
    else:
        owner = _open_host(options)
        config.stash[_HOST] = owner
        host, run, worker = owner.client, secrets.token_hex(2), ""
    config.stash[_RUN] = run
    config.stash[KIT] = Kit(services=services, options=options, host=host, run=run, worker=worker)
    config.pluginmanager.register(fixtures, "pratique-fixtures")


def _open_host(options: Options) -> OwnedHost | ReusedHost:
    if options.reuse_seconds is None:
        return OwnedHost()
    folder = Path(tempfile.gettempdir()) / f"pratique-testkit-reuse-{os.getuid()}" / "host"
    host = ReusedHost(folder, idle_seconds=options.reuse_seconds)
    host.open()
    return host


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist's worker controller is not typed
    """Tell a worker where the host is."""
    if KIT in node.config.stash:
        node.workerinput["pratique_host"] = str(kit_of(node.config).host.address)
        node.workerinput["pratique_run"] = node.config.stash[_RUN]


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
    """Start what the collected tests need, beside the tests that run first."""
    config = session.config
    if KIT not in config.stash or config.getoption("collectonly"):
        return
    kit = kit_of(config)
    wanted = dict.fromkeys(
        behind for item in session.items for name in _fixture_names(item) if (behind := server_of(item, name))
    )
    early = [one for one in wanted if kit.service(one[0]).starts_early and not is_url(kit.words_for(*one))]
    for service, use in early:
        threading.Thread(target=_start_early, args=(kit, service, use), daemon=True).start()


def _start_early(kit: Kit, service: str, use: str | None) -> None:
    # What goes wrong here goes wrong again, and is told, where a test asks.
    with contextlib.suppress(TestkitError):
        kit.warm_up(service, use)


def _fixture_names(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse back ends that lack what the test needs, before anything is started for it."""
    if KIT not in item.config.stash:
        return
    needed = [str(name) for marker in item.iter_markers("needs") for name in marker.args]
    if needed:
        behind = [found for name in _fixture_names(item) if (found := server_of(item, name))]
        report.refuse_gaps(kit_of(item.config), needed, behind)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Attach what the services logged to a failure."""
    made: Any = yield
    if made.failed and KIT in item.config.stash:
        kit = kit_of(item.config)
        for value in getattr(item, "funcargs", {}).values():
            endpoint = value if isinstance(value, Endpoint) else getattr(value, "endpoint", None)
            if isinstance(endpoint, Endpoint):
                made.sections += report.failure_sections(kit, endpoint, value)
    return made  # type: ignore[no-any-return]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 - not typed
    """Say what was used, what is missing, and what was left behind."""
    if KIT in config.stash:
        for title, lines in report.summary(kit_of(config).books):
            terminalreporter.section(title)
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
