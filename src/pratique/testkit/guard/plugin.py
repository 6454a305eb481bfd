"""The guard of a run, as pytest sees it: flags, marks, and the session that it is active in.

The order counts: refuse, before anything is started; pin, before a test or conftest is imported that could read; watch.
So it starts when pytest is about to load the first conftest, with the flags and ini values that are known by then: all
of its own are. Only what Python loads before is before it: plugins. Where the kit is itself brought in by a conftest
it starts as soon as pytest is configured. All of it ends with the session, in the order that undoes it. Under xdist
the controller and every worker guard themselves, at the same moment; workers hand what they blocked over in their
reports.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest

from pratique.core.secrets.local import is_local
from pratique.testkit.errors import CredentialsFoundError, TestkitUsageError
from pratique.testkit.guard.awsclients import watch_aws_clients
from pratique.testkit.guard.credentials import AwsPins, find_credentials, make_pins, refuse_credentials
from pratique.testkit.guard.environment import credentials_in_boto3, pinned
from pratique.testkit.guard.hosts import Hosts, make_proxy_pins, parse_hosts
from pratique.testkit.guard.sockets import watch_sockets
from pratique.testkit.guard.watch import Guard, guarded
from pratique.testkit.options import known_flags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["GUARD_MARKERS", "GuardOptions", "GuardPlugin", "add_guard_options", "read_guard_options", "start_guard"]

GUARD_MARKERS: Final = (
    "allow_hosts(host, ...): let this test reach these hosts, addresses or networks as well",
    "network: let this test reach every host",
)
_BLOCKED: Final = "pratique_blocked"
_DECIDED: Final = pytest.StashKey[bool]()
"""The guard of this session is started, or off."""


@dataclass(frozen=True, kw_only=True)
class GuardOptions:
    """What was asked for."""

    is_on: bool = True
    hosts: Hosts = field(default_factory=Hosts)
    allows_credentials: bool = False
    aws: AwsPins = field(default_factory=AwsPins)


def add_guard_options(parser: pytest.Parser) -> None:
    """Declare flags and ini values."""
    group = parser.getgroup("pratique-guard", "pratique: credential guard")
    group.addoption("--pratique-guard", choices=("on", "off"), help="Guard the run (on), or do nothing of it (off).")
    parser.addini("pratique_guard", "As --pratique-guard.", default="on")
    group.addoption(
        "--pratique-allow-hosts",
        action="append",
        metavar="HOST,...",
        help="Names, addresses or networks that tests may reach, beside this machine; * for all.",
    )
    parser.addini("pratique_allow_hosts", "As --pratique-allow-hosts.", type="args", default=[])
    group.addoption(
        "--pratique-allow-credentials",
        action="store_true",
        default=None,
        help="Run with real AWS credentials within reach. Hosts must be allowed all the same.",
    )
    parser.addini("pratique_allow_credentials", "As --pratique-allow-credentials.", type="bool", default=False)
    parser.addini("pratique_aws_region", "The AWS region of the run.", default="us-east-1")
    parser.addini(
        "pratique_aws_endpoint",
        "AWS_ENDPOINT_URL of the run; `none` leaves it unset. By default one where nothing listens.",
        default="",
    )


def read_guard_options(config: pytest.Config, service_urls: Iterable[str]) -> GuardOptions:
    """Read them. The hosts of services that were given by URL are allowed: they were named for this run.

    Raises:
        TestkitUsageError: a value means nothing.
    """
    flags = known_flags(config)
    state = str(flags["pratique_guard"] or config.getini("pratique_guard"))
    if state not in {"on", "off"}:
        raise TestkitUsageError(f"The ini value pratique_guard is '{state}'.", hint="Expected: on or off.")
    endpoint = str(config.getini("pratique_aws_endpoint"))
    if endpoint not in {"", "none"} and not urlsplit(endpoint).hostname:
        raise TestkitUsageError(
            f"The ini value pratique_aws_endpoint is '{endpoint}'.", hint="Expected: a URL, or none."
        )
    flag = flags["pratique_allow_credentials"]
    allows = bool(config.getini("pratique_allow_credentials") if flag is None else flag)
    hosts = parse_hosts(config.getini("pratique_allow_hosts"), where="the ini value pratique_allow_hosts")
    hosts = hosts.with_more(parse_hosts(flags["pratique_allow_hosts"] or (), where="--pratique-allow-hosts"))
    return GuardOptions(
        is_on=state == "on",
        hosts=hosts.with_more(_hosts_of_urls(service_urls)),
        allows_credentials=allows,
        aws=AwsPins(region=str(config.getini("pratique_aws_region")), endpoint=endpoint, keeps_credentials=allows),
    )


def start_guard(config: pytest.Config, service_urls: Iterable[str]) -> None:
    """Guard the session from here to its end, unless it is guarded: the first call counts.

    Raises:
        pytest.UsageError: credentials that look real are within reach, or an option means nothing.
    """
    if _DECIDED in config.stash:
        return
    config.stash[_DECIDED] = True
    for line in GUARD_MARKERS:
        config.addinivalue_line("markers", line)
    try:
        options = read_guard_options(config, service_urls)
        if not options.is_on:
            return
        if not options.allows_credentials:
            refuse_credentials(find_credentials(os.environ) | credentials_in_boto3())
    except (CredentialsFoundError, TestkitUsageError) as error:
        raise pytest.UsageError(str(error)) from error
    guard = Guard(hosts=options.hosts, own_name=socket.gethostname())
    pins = make_pins(os.environ, options.aws, options.hosts.allows) | make_proxy_pins(os.environ, options.hosts)
    with contextlib.ExitStack() as stack:
        stack.enter_context(pinned(pins))
        stack.enter_context(guarded(guard, (watch_sockets, watch_aws_clients)))
        config.pluginmanager.register(GuardPlugin(guard, options), "pratique-guard")
        config.add_cleanup(stack.pop_all().close)


class GuardPlugin:
    """Says what is guarded, judges in the name of the running test, and lists what was blocked."""

    def __init__(self, guard: Guard, options: GuardOptions) -> None:
        self._guard = guard
        self._options = options
        self._listed: list[str] = []
        self._seen = 0

    def allow_url(self, url: str) -> None:
        """Let the session reach the host of a URL that a fixture of this run names."""
        more = _hosts_of_urls([url])
        self._guard.hosts = self._guard.hosts.with_more(more)

    def pytest_report_header(self) -> list[str]:
        """Say what is guarded, and loudly what is not."""
        hosts = self._options.hosts
        more = [*map(str, hosts.networks), *sorted(hosts.names)]
        reach = "everything" if hosts.is_everywhere else ", ".join(["this machine", *more])
        lines = [f"pratique guard: AWS region {self._options.aws.region}; sockets reach {reach}"]
        if self._options.allows_credentials:
            lines.append("pratique guard: !!! REAL AWS CREDENTIALS ARE ALLOWED IN THIS RUN !!!")
        return lines

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse marks that mean nothing before a test runs."""
        try:
            for item in items:
                _hosts_of(item)
        except TestkitUsageError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Let a test reach what its marks allow."""
        with self._guard.during(item.nodeid, _hosts_of(item)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Note what was blocked since the last report: code that swallows the error does not hide it."""
        del item
        made: Any = yield
        fresh, self._seen = self._guard.blocked[self._seen :], len(self._guard.blocked)
        if fresh:
            setattr(made, _BLOCKED, fresh)
        return made  # type: ignore[no-any-return]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather it, from workers too."""
        self._listed += getattr(report, _BLOCKED, [])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:  # noqa: ANN401 - not typed
        """List it."""
        lines = dict.fromkeys([*self._listed, *self._guard.blocked[self._seen :]])
        if lines:
            terminalreporter.section("pratique guard: blocked")
            for line in lines:
                terminalreporter.write_line(line)


def _hosts_of_urls(urls: Iterable[str]) -> Hosts:
    given = [host for url in urls if (host := _host_of(url)) and not is_local(host)]
    return parse_hosts(given, where="a service's URL")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""  # what is wrong with it is said when the back ends are read


def _hosts_of(item: pytest.Item) -> Hosts | None:
    if item.get_closest_marker("network"):
        return Hosts(is_everywhere=True)
    # Lists are taken as well: another plugin's mark of this name has them.
    given = [
        str(host)
        for mark in item.iter_markers("allow_hosts")
        for value in mark.args
        for host in (value if isinstance(value, list | tuple) else [value])
    ]
    return parse_hosts(given, where=f"the mark allow_hosts of {item.nodeid}") if given else None
