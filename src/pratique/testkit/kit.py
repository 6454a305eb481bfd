"""The kit of one test process: gives endpoints, namespaces and private servers, and keeps the books for the summary."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.host.launch import Launch, key_of
from pratique.testkit.host.logs import read_tail, size_of
from pratique.testkit.options import LeakMode, Options
from pratique.testkit.services.choice import (
    AUTO,
    Chosen,
    Given,
    choose_provider,
    first_given,
    is_url,
    read_candidates,
    read_url,
    without_password,
)
from pratique.testkit.services.interface import Backend, Connection, Endpoint, Namespace
from pratique.testkit.services.names import mark_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pratique.testkit.host.client import HostClient
    from pratique.testkit.host.launch import Running
    from pratique.testkit.services.interface import Provider, Service

__all__ = ["Asked", "Books", "Kit", "Leak", "LeakError", "PrivateServer", "Use"]

E = TypeVar("E", bound=Endpoint)

_URL_PROVIDER: Final = "url"


class LeakError(AssertionError):
    """A test left something behind, and leaks are errors in this run."""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """A service that was used, for the summary."""

    service: str
    title: str
    backend: str
    provider: str
    version: str
    start_seconds: float
    gaps: dict[str, str]


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """What one test left behind."""

    test: str
    service: str
    what: str


class Books(msgspec.Struct, kw_only=True):
    """What a process tells at its end."""

    uses: dict[str, Use] = {}
    leaks: list[Leak] = []
    missing: dict[str, str] = {}
    """Service → why no back end of it is here."""
    refused: dict[str, int] = {}
    """Service → tests that were skipped because it is missing."""
    deaths: list[str] = []
    """Shared servers that died and were started again."""
    unproven: dict[str, str] = {}
    """Service → the server that tests need something of, and of which nobody said what it is."""

    def add(self, other: Books) -> None:
        """Take in the books of a worker."""
        for key, use in other.uses.items():
            known = self.uses.get(key)
            if known is None or known.start_seconds == 0:
                self.uses[key] = use
        self.leaks += other.leaks
        self.deaths += other.deaths
        self.missing.update(other.missing)
        self.unproven.update(other.unproven)
        for service, count in other.refused.items():
            self.refused[service] = self.refused.get(service, 0) + count


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A shared server as the host is asked for it."""

    key: str
    launch: Launch
    label: str
    starts: int = 1
    """How often it had been started when this process last heard."""


class PrivateServer(Generic[E]):
    """A server of one test's own: stop it, pause it, fill it. It ends with the test."""

    def __init__(self, host: HostClient, endpoint: E, *, start_seconds: float = 0.0) -> None:
        self._host = host
        self._start_seconds = start_seconds
        self.endpoint = endpoint
        self.url = endpoint.url
        self._is_stopped = False

    @property
    def key(self) -> str:
        return self.endpoint.connection.key

    def pause(self) -> None:
        """Make it hang, as an overloaded machine would, until `resume`."""
        self._host.signal(self.key, "pause")

    def resume(self) -> None:
        """End the hang."""
        self._host.signal(self.key, "resume")

    def kill(self) -> None:
        """Kill it as a crash would. Its port stays reserved."""
        self._host.signal(self.key, "kill")

    def restart(self) -> None:
        """Start it again (killed first where it runs), empty, on the same port; return when it is ready."""
        self._host.signal(self.key, "restart", start_seconds=self._start_seconds)

    def tail(self, lines: int = 20) -> str:
        """Return the end of its log."""
        return self._host.tail(self.key, lines)

    def stop(self) -> None:
        """End it for good. It does no harm to do so twice."""
        if not self._is_stopped:
            self._host.stop(self.key)
            self._is_stopped = True


class Kit:
    """One per process. `run` and `worker` make the names of namespaces unique."""

    def __init__(
        self, *, services: Mapping[str, Service[Any]], options: Options, host: HostClient, run: str, worker: str
    ) -> None:
        self.services = services
        self.options = options
        self.host = host
        self.books = Books()
        self._mark = mark_of(run, worker)
        self._is_shared = bool(worker) or options.reuse_seconds is not None
        self._numbers = itertools.count(1)
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._asked: dict[str, Asked] = {}
        self._chosen: dict[tuple[str, str], Chosen] = {}
        self._log_begins: dict[str, int] = {}
        """Where in each shared server's log the present test begins. A private one's is the test's as a whole."""

    def words_for(self, service: str, use: str | None = None) -> str:
        """Return what was asked for: the factory's argument, or what flag, environment and ini say."""
        self.service(service)
        return first_given(use, self.options.back_ends.get(service))

    def service(self, name: str) -> Service[Any]:
        """Return a service.

        Raises:
            TestkitUsageError: there is none of that name.
        """
        if name not in self.services:
            raise TestkitUsageError(f"There is no service '{name}'.", hint=f"Known: {', '.join(self.services)}.")
        return self.services[name]

    def choose(self, name: str, use: str | None = None) -> Chosen:
        """Return who will provide a service. Starts nothing. Not for a service that is given by its URL."""
        key = (name, self.words_for(name, use))
        if key not in self._chosen:
            candidates = read_candidates(name, self.service(name).providers, key[1])
            self._chosen[key] = choose_provider(name, candidates)
        return self._chosen[key]

    def given(self, name: str, use: str | None = None) -> Given | None:
        """Return the running server that the service is, or None where one is to be started."""
        words = self.words_for(name, use)
        return read_url(name, self.service(name).providers, words) if is_url(words) else None

    def provider(self, name: str, use: str | None = None) -> Provider | None:
        """Return what the service is in this run; None for a server by URL of which nobody said it.

        Raises:
            ServiceMissingError: no back end that was asked for is here.
        """
        given = self.given(name, use)
        return self.choose(name, use).provider if given is None else given.provider

    def note_unproven(self, name: str, use: str | None = None) -> None:
        """Note that a test needs something of a server of which nobody said what it is."""
        self.books.unproven[name] = without_password(self.words_for(name, use))

    def endpoint(self, name: str, use: str | None = None) -> Endpoint:
        """Return the shared endpoint of a service, started if this is the first to ask for it in the whole run.

        Raises:
            ServiceMissingError: no back end that was asked for is here.
            ServiceStartError: it did not get ready.
        """
        words = self.words_for(name, use)
        if (name, words) not in self._endpoints:
            service, given = self.service(name), self.given(name, use)
            if given is None:
                connection = _connection(self.choose(name, use), self.warm_up(name, use), is_shared=self._is_shared)
            else:
                connection = _connection_to(given)
            if connection.log:
                self._log_begins.setdefault(connection.log, size_of(Path(connection.log)))
            endpoint = service.connect(connection)
            self._endpoints[name, words] = endpoint
            self._note(service, endpoint)
        return self._endpoints[name, words]

    def warm_up(self, name: str, use: str | None = None) -> Running:
        """Have the host start a service, unless it runs; return its shared server when it is ready."""
        asked = self.asked_for(name, use)
        running = self.host.ensure(asked.key, asked.launch, label=asked.label)
        self._asked[running.key] = msgspec.structs.replace(asked, starts=running.starts)
        return running

    def begin(self, name: str, use: str | None = None) -> None:
        """As `warm_up`, without waiting for it."""
        asked = self.asked_for(name, use)
        self.host.begin(asked.key, asked.launch, label=asked.label)

    def asked_for(self, name: str, use: str | None = None) -> Asked:
        """Return what the host is asked for, for a shared service."""
        chosen = self.choose(name, use)
        key = key_of(chosen.provider.server or name, chosen.found.launch, chosen.found.version)
        return Asked(key=key, launch=chosen.found.launch, label=f"{name}/{chosen.provider.name}")

    def launch(self, name: str, use: str | None = None) -> PrivateServer[Any]:
        """Start a server for one test; whoever asks for it stops it.

        Where the run has the service at a URL, the private one is whatever can be started here.
        """
        words = self.words_for(name, use)
        chosen = self.choose(name, AUTO if is_url(words) else use)
        running = self.host.ensure(f"{name}-{self.new_name()}", chosen.found.launch)
        try:
            endpoint = self.service(name).connect(_connection(chosen, running))
        except BaseException:
            self.host.stop(running.key)
            raise
        return PrivateServer(self.host, endpoint, start_seconds=chosen.found.launch.start_seconds)

    def new_name(self) -> str:
        """Return a name that nobody else in this run, nor in one beside it, has."""
        return f"{self._mark}n{next(self._numbers)}"

    @contextlib.contextmanager
    def namespace(self, endpoint: Endpoint, owner: str) -> Iterator[Namespace]:
        """Open a namespace for `owner` (a test's id), and look for leaks when it is closed.

        Raises:
            LeakError: something was left behind, and leaks are errors.
        """
        namespace = self._open_namespace(endpoint, owner)
        left: list[str] = []
        try:
            yield namespace
        finally:
            try:
                left = [] if self.options.leaks is LeakMode.OFF else namespace.leaks()
            finally:
                namespace.close()
            self.books.leaks += [Leak(test=owner, service=endpoint.service, what=what) for what in left]
        if left and self.options.leaks is LeakMode.ERROR:
            raise LeakError(f"{owner} left behind in {endpoint.service}: {'; '.join(left)}")

    def _open_namespace(self, endpoint: Endpoint, owner: str) -> Namespace:
        service = self.service(endpoint.service)
        namespace = service.namespace(endpoint, self.new_name())
        try:
            namespace.open()
        except Exception:
            if not self._is_started_again(endpoint, owner):
                raise
            # What went wrong is that a test, or an accident, has ended the shared server.
            namespace = service.namespace(endpoint, self.new_name())
            namespace.open()
        return namespace

    def _is_started_again(self, endpoint: Endpoint, owner: str) -> bool:
        asked = self._asked.get(endpoint.connection.key)
        if asked is None:
            return False
        running = self.host.ensure(asked.key, asked.launch, label=asked.label)
        self._asked[asked.key] = msgspec.structs.replace(asked, starts=running.starts)
        if running.starts == asked.starts:
            return False
        self.books.deaths.append(f"{endpoint.service}: had died before {owner}, and was started again, empty")
        return True

    def give_books(self) -> bytes:
        """Return the books as they travel to the controller."""
        return msgspec.json.encode(self.books)

    def take_books(self, told: bytes) -> None:
        """Take in the books of a worker."""
        self.books.add(msgspec.json.decode(told, type=Books))

    def _note(self, service: Service[Any], endpoint: Endpoint) -> None:
        use = Use(
            service=service.name,
            title=service.title,
            backend=endpoint.backend.value,
            provider=endpoint.provider,
            version=endpoint.version,
            start_seconds=endpoint.connection.start_seconds,
            gaps=dict(endpoint.connection.gaps),
        )
        self.books.uses[f"{service.name}/{endpoint.provider}"] = use

    def begin_test(self) -> None:
        """Note that a test begins: what the servers have logged until now has nothing to do with it."""
        for log in self._log_begins:
            self._log_begins[log] = size_of(Path(log))

    def tail_of(self, endpoint: Endpoint, lines: int = 20) -> str:
        """Return the end of what a server has logged since the test began, or "" where that is nothing."""
        log = endpoint.connection.log
        return read_tail(Path(log), lines, since=self._log_begins.get(log, 0)) if log else ""


def _connection_to(given: Given) -> Connection:
    if given.provider is None:
        return Connection(url=given.url, backend=Backend.URL, provider=_URL_PROVIDER)
    name, gaps = given.provider.name, given.provider.gaps
    return Connection(url=given.url, backend=Backend.URL, provider=name, gaps=gaps)


def _connection(chosen: Chosen, running: Running, *, is_shared: bool = False) -> Connection:
    provider = chosen.provider
    return Connection(
        url=f"{provider.scheme}://{running.host}:{running.port}",
        backend=provider.backend,
        provider=provider.name,
        version=chosen.found.version,
        start_seconds=running.start_seconds,
        gaps=provider.gaps,
        key=running.key,
        log=running.log,
        is_shared=is_shared,
    )
