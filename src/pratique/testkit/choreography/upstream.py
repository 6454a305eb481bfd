"""An HTTP upstream for one test, on a WireMock that all tests share: its scripts, what came, whether that is right.

    def test_a_503_is_tried_again(upstream):
        upstream.script(fail(503, after=0.48), fail(503), ok(json={"answer": 42}))
        call_model(upstream.url)
        upstream.verify(count=3, gaps=between(0.1, 0.6))

Its URL has a path of its own, and so has each of its clients; stubs, scenarios and the journal are told apart by it.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.choreography.expected import ANYTHING, Expected, Which, make_which
from pratique.testkit.choreography.ranges import Range, as_range
from pratique.testkit.choreography.stubs import (
    METADATA,
    Script,
    compile_files,
    compile_marker,
    compile_script,
    make_route,
    make_script,
)
from pratique.testkit.choreography.timeline import (
    Attempt,
    find_problems,
    gaps_of,
    near_misses,
    read_attempts,
    read_journal,
    render,
)
from pratique.testkit.errors import ServiceGoneError, TestkitUsageError
from pratique.testkit.looks import looks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.testkit.choreography.admin import WireMockAdmin
    from pratique.testkit.choreography.steps import Step
    from pratique.testkit.services.interface import Endpoint

__all__ = ["On", "Upstream", "UpstreamClient"]

_MAIN: Final = "main"
_CLIENT: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_LOOK_SECONDS: Final = 0.01
_QUIET_LOOKS: Final = 2
_SETTLE_SECONDS: Final = 0.3


class UpstreamClient:
    """The upstream as one client sees it: a URL of its own, and its own copy of each script, from its first step."""

    def __init__(self, upstream: Upstream, name: str) -> None:
        self.name = name
        self.url = f"{upstream.endpoint.url.rstrip('/')}/{upstream.name}/{name}"


class On:
    """Requests of one method and path, to be scripted."""

    def __init__(self, upstream: Upstream, method: str, path: str) -> None:
        self._upstream = upstream
        self._route = make_route(method, path)

    def script(self, *steps: Step, then: Step | None = None) -> None:
        """Answer request by request. The last step is repeated, unless `then` says what comes after it.

        A second script for the same requests takes the place of the first.
        """
        self._upstream._add(make_script(self._upstream._next_number(), self._route, steps, then))  # noqa: SLF001


class Upstream:
    """A namespace of WireMock. One client at a time, or each with `client(name)`."""

    def __init__(self, endpoint: Endpoint, admin: WireMockAdmin, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self._admin = admin
        self._main = UpstreamClient(self, _MAIN)
        self._clients = {_MAIN: self._main}
        self._scripts: dict[int, Script] = {}
        self._files: list[str] = []
        self._is_looked_at = False
        self._requests = f"/{name}([/?].*)?"

    @property
    def url(self) -> str:
        """For the code under test."""
        return self._main.url

    def client(self, name: str) -> UpstreamClient:
        """Return the upstream for one of several clients that ask at the same time."""
        if not _CLIENT.fullmatch(name):
            raise TestkitUsageError(
                f"The client's name is {name!r}.", hint="Expected lower case letters, digits and hyphens, at most 31."
            )
        if name not in self._clients:
            self._install(self._current(), (name,))
            self._clients[name] = UpstreamClient(self, name)
        return self._clients[name]

    def on(self, method: str, path: str) -> On:
        """Return requests to script: a method (or ANY) and a path, as the client asks below the URL."""
        return On(self, method, path)

    def script(self, *steps: Step, then: Step | None = None) -> None:
        """Script all requests that no `on(...)` is for. As `On.script`."""
        On(self, "ANY", "").script(*steps, then=then)

    def attempts(
        self, *, method: str | None = None, path: str | None = None, client: str | None = None
    ) -> list[Attempt]:
        """Return what came, in order.

        Raises:
            TestkitUsageError: no attempt can be of this method, path or client.
            ServiceGoneError: WireMock does not answer, or has lost requests of this test.
        """
        which = self._which(method, path, client)
        self._is_looked_at = True
        return which.select(self._settle())

    def gaps(self, *, method: str | None = None, path: str | None = None, client: str | None = None) -> list[float]:
        """Return the seconds from each attempt to the next."""
        return gaps_of(self.attempts(method=method, path=path, client=client))

    def unused(self) -> list[str]:
        """Return the steps that answered nothing, but for "exhausted", each client for itself if it asked at all."""
        attempts = self._settle()
        used = {(one.script, one.client, one.index) for one in attempts}
        clients = sorted({one.client for one in attempts} & set(self._clients)) or [_MAIN]
        return [
            f"step {index + 1} ({step.label}) of {script.route}, client '{client}'"
            for client in clients
            for script in self._current()
            for index, step in enumerate(script.steps)
            if (script, client, index) not in used and not step.is_exhausted
        ]

    def problems(self) -> list[str]:
        """Return what no test can want: a script exhausted, one step for two requests at once, no script at all."""
        self._is_looked_at = True
        return find_problems(self._settle(), self._current())

    def verify(
        self,
        *,
        count: int | Range | None = None,
        gaps: float | Range | None = None,
        waits: float | Range | None = None,
        json: Any = ANYTHING,  # noqa: ANN401 - any JSON value
        method: str | None = None,
        path: str | None = None,
        client: str | None = None,
    ) -> list[Attempt]:
        """Return the attempts of this method, path and client, once they are as expected.

        Fewer than two attempts show no gaps and no waits, and none shows no body: wrong too, but for `count=0`.
        A request that was sent just now is waited for, for a moment. One that was cut off in its body is none.

        Args:
            count: how many there are.
            gaps: of what length, in seconds, each time is from one's coming to the next one's.
            waits: for how long, in seconds, each client waited for an answer that came later than that: its time-out.
                It is seen by the next attempt, which comes before the slow answer was due; so an answer must be slower
                than time-out and pause together, and another attempt come after it.
            json: the body of each; `true` is not 1, and 1 is not 1.0.
            method: which ones, written as for `on`; with `path` and `client`, all of them where left out.
            path: as above.
            client: as above.

        Raises:
            AssertionError: something is not; the timeline is in the message.
            TestkitUsageError: no attempt can be of this method, path or client.
        """
        which = self._which(method, path, client)
        expected = Expected(count=count, gaps=gaps, waits=waits, json=json)
        self._is_looked_at = True
        everything = self._settle(lambda all_: expected.is_enough(which.select(all_)))
        attempts = which.select(everything)
        wrong = find_problems(everything, self._current()) + expected.wrong(attempts)
        if wrong:
            raise AssertionError(_tell(wrong, everything))
        return attempts

    @contextlib.contextmanager
    def reached(self, count: int | Range) -> Iterator[None]:
        """Hold the block to the number of attempts that come meanwhile, of all clients: none from an open breaker.

        Raises:
            AssertionError: it is another; the timeline is in the message.
        """
        before = len(self._settle())
        yield
        everything = self._settle(lambda attempts: len(attempts) - before in as_range(count))
        came = len(everything) - before
        if came not in as_range(count):
            wrong = f"expected {as_range(count)} attempts in this block, got {came}, from attempt {before + 1} on"
            raise AssertionError(_tell([wrong], everything))

    def verify_all_used(self) -> None:
        """Raise AssertionError where a step of a script answered nothing."""
        left = self.unused()
        if left:
            raise AssertionError(_tell(["steps that answered nothing:", *left], self._read()))

    def report(self) -> list[tuple[str, str]]:
        """Return what stands below a failed test."""
        try:
            attempts = self._read()
        except ServiceGoneError as error:
            return [("timeline of attempts", f"lost: {error}")]
        sections = [("timeline of attempts", render(attempts) or "nothing came")]
        return sections + [("near misses", missed) for missed in [near_misses(attempts, self._current())] if missed]

    def open(self) -> None:
        with contextlib.ExitStack() as half_way:
            half_way.callback(self._remove_stubs)
            self._admin.add_stubs([compile_marker(self.name)])
            self._admin.ask("GET", f"/{self.name}")
            half_way.pop_all()

    def leaks(self) -> list[str]:
        """Return the problems that the test has not asked for. Steps that were not used are none."""
        return [] if self._is_looked_at else find_problems(self._read(), self._current())

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # one that cannot be removed keeps no other; the last goes first
            while self._files:
                stack.callback(self._admin.remove_file, self._files.pop())
            stack.callback(self._admin.forget_requests, self._requests)
            stack.callback(self._remove_stubs)

    def _remove_stubs(self) -> None:
        self._admin.remove_stubs(f"$.{METADATA}.scope", self.name)

    def _add(self, script: Script) -> None:
        for name, content in compile_files(script, self.name).items():
            self._files.append(name)
            self._admin.put_file(name, content)
        self._install([script], tuple(self._clients))
        self._scripts[script.number] = script

    def _next_number(self) -> int:
        return len(self._scripts) + 1

    def _install(self, scripts: list[Script], clients: tuple[str, ...]) -> None:
        stubs = [stub for client in clients for script in scripts for stub in compile_script(script, self.name, client)]
        if stubs:
            self._admin.add_stubs(stubs)

    def _current(self) -> list[Script]:
        """Return the scripts that no later one has replaced."""
        return list({script.route: script for script in self._scripts.values()}.values())

    def _which(self, method: str | None, path: str | None, client: str | None) -> Which:
        return make_which(method, path, client, self._clients)

    def _settle(self, is_enough: Callable[[list[Attempt]], bool] = lambda _: True) -> list[Attempt]:
        """Return what came, when nothing more comes: a request that was sent just now is not in the journal yet."""
        seen, quiet, attempts = -1, 0, list[Attempt]()
        for _ in looks(_SETTLE_SECONDS, first=_LOOK_SECONDS, longest=_LOOK_SECONDS):
            count = self._admin.count_requests(self._requests)
            quiet = quiet + 1 if count == seen else 0
            if not quiet:
                seen, attempts = count, self._read()
            if quiet >= _QUIET_LOOKS and is_enough(attempts):
                break
        return attempts

    def _read(self) -> list[Attempt]:
        entries = read_journal(self._admin.journal(), self.name)
        if entries is None:
            raise ServiceGoneError(
                f"WireMock at {self.endpoint.url} has lost requests of this test.",
                hint="Its journal is bounded (4000 requests of all tests at once), or it was started again.",
            )
        return read_attempts(entries, self.name, self._scripts)


def _tell(wrong: list[str], attempts: list[Attempt]) -> str:
    return "\n".join([*wrong, "timeline of attempts:", render(attempts) or "nothing came"])
