"""A target in memory: keeps the contract, and fails, dawdles or measures as it is told. For tests.

Time is its own: `ManualTime` moves only when somebody waits on it. What each release measures is scripted by digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pratique.fleet.targets.interface import Deployment, Health, TargetError, Window

__all__ = ["FakeTarget", "ManualTime", "Measured"]

Measured = Mapping[str, Sequence[float]]


@dataclass
class ManualTime:
    """A clock that whoever waits on it moves."""

    elapsed: float = 0.0
    started: float = 1_700_000_000.0

    def monotonic(self) -> float:
        """Return the seconds since it was made."""
        return self.elapsed

    def epoch(self) -> float:
        """Return the seconds since 1970 UTC."""
        return self.started + self.elapsed

    def wait(self, seconds: float) -> None:
        """Move it forward."""
        self.elapsed += max(0.0, seconds)


@dataclass
class FakeTarget:
    """Runs nothing. `calls` is what it was asked to change, in order, with the second of each."""

    name: str = "fake"
    time: ManualTime = field(default_factory=ManualTime)
    stable: str | None = None
    candidate: str | None = None
    share: float = 0.0
    calls: list[tuple[float, str]] = field(default_factory=list)
    script: dict[str, Callable[[float], Measured]] = field(default_factory=dict)
    """What a digest measures in so many seconds; nothing where it is not there."""
    unhealthy: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    """Names of methods that raise TargetError before they do anything."""
    before: Callable[[str], object] | None = None
    """Called with a method's name before anything is done: to interrupt, or to change the world meanwhile."""

    def deployment(self) -> Deployment:
        """Say what runs."""
        self._enter("deployment")
        return Deployment(self.stable, self.candidate, self.share)

    def start_canary(self, digest: str, *, share: float) -> None:
        """Give a digest a share of the traffic."""
        self._enter("start_canary")
        if self.stable is None:
            raise TargetError("there is nothing to run a canary beside", hint="Promote a first release.")
        if not 0 < share < 1:
            raise TargetError(f"the share of a canary must be between 0 and 1, got {share:g}")
        if digest == self.stable or (self.candidate, self.share) == (digest, share):
            return
        self._call(f"start_canary {digest} {share:g}")
        self.candidate, self.share = digest, share

    def promote(self, digest: str) -> None:
        """Give a digest all traffic."""
        self._enter("promote")
        if (self.stable, self.candidate) == (digest, None):
            return
        self._call(f"promote {digest}")
        self.stable, self.candidate, self.share = digest, None, 0.0

    def abort_canary(self) -> None:
        """Give the stable one all traffic."""
        self._enter("abort_canary")
        if self.candidate is None:
            return
        self._call("abort_canary")
        self.candidate, self.share = None, 0.0

    def health(self, digest: str) -> Health:
        """Say what was scripted of a digest that runs."""
        self._enter("health")
        if digest not in {self.stable, self.candidate}:
            return Health(is_healthy=False, num_ready=0, num_wanted=1, reason="it does not run")
        if digest in self.unhealthy:
            return Health(is_healthy=False, num_ready=0, num_wanted=1, reason="its health check says no")
        return Health(is_healthy=True, num_ready=1, num_wanted=1, reason="")

    def measure(self, *, seconds: float) -> Window:
        """Return what was scripted of both."""
        self._enter("measure")
        return Window(self._measured(self.stable, seconds), self._measured(self.candidate, seconds))

    def _measured(self, digest: str | None, seconds: float) -> Measured:
        script = self.script.get(digest or "")
        return script(seconds) if script else {}

    def _enter(self, method: str) -> None:
        if self.before is not None:
            self.before(method)
        if method in self.failing:
            raise TargetError(f"{method} was scripted to fail")

    def _call(self, what: str) -> None:
        self.calls.append((self.time.elapsed, what))
