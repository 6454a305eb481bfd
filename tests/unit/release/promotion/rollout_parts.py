"""A ledger, a gatekeeper and an alert sink in memory, a target that measures by script, and a process that can die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import numpy as np

from pratique.core.errors import PratiqueError, RefusedError
from pratique.fleet.targets.fake import FakeTarget, ManualTime, Measured
from pratique.release.errors import ConflictError
from pratique.release.ledger.interface import Entry, EntryKind, Head
from pratique.release.predicates import Canary
from pratique.release.promotion.desk import Desk
from pratique.release.promotion.history import History, Released
from pratique.release.promotion.interface import Alert
from pratique.release.promotion.settings import CanarySettings, MetricRule, PromotionSettings
from pratique.release.values import Digest, Subject, digest_of

REPOSITORY = "registry.example/team/chat"
ENVIRONMENT = "production"
A, B, C, D = (digest_of(name.encode()) for name in "abcd")
SETTINGS = PromotionSettings(
    canary=CanarySettings(
        metrics=(
            MetricRule(name="error", kind="rate", max_increase=0.005, min_samples=100),
            MetricRule(
                name="latency_seconds", kind="level", max_ratio=1.1, max_increase=0.005, limit=0.5, min_samples=100
            ),
        )
    ),
    canary_seconds=300.0,
)


class KilledError(BaseException):
    """What a process sees that was killed: nothing, ever again."""


@dataclass
class Life:
    """Counts what a process does to the world, and ends it at one of these steps."""

    dies_at: int = -1
    steps: int = 0
    is_dead: bool = False

    def step(self) -> None:
        if self.is_dead or self.steps == self.dies_at:
            self.is_dead = True
            raise KilledError
        self.steps += 1


@dataclass
class MemoryLedger:
    """Entries in a list."""

    written: list[Entry] = field(default_factory=list)
    before_append: Callable[[], object] | None = None

    def append(
        self,
        kind: EntryKind,
        subject: Digest,
        body: object,
        *,
        environment: str = "",
        actor: str,
        expected_size: int | None = None,
    ) -> Entry:
        before, self.before_append = self.before_append, None
        if before is not None:
            before()
        if expected_size is not None and expected_size != len(self.written):
            raise ConflictError("the ledger has grown")
        content = msgspec.json.encode(body)
        index = len(self.written)
        previous = self.written[-1].hash if self.written else digest_of(b"")
        at = datetime(2026, 11, 26, tzinfo=UTC)
        hash_ = digest_of(b"%d %s %s %s" % (index, kind.encode(), subject.encode(), content))
        entry = Entry(index, at, kind, subject, environment, content, actor, previous, hash_)
        self.written.append(entry)
        return entry

    def entries(
        self,
        *,
        kinds: tuple[EntryKind, ...] = (),
        subject: Digest | None = None,
        environment: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        for entry in reversed(list(self.written)) if newest_first else list(self.written):
            if (
                (not kinds or entry.kind in kinds)
                and subject in {None, entry.subject}
                and environment in {None, entry.environment}
            ):
                yield entry

    def head(self) -> Head:
        return Head(len(self.written), digest_of(b"head"), b"")

    def verify(self) -> int:
        return len(self.written)

    def kinds(self) -> list[str]:
        """What was written about rollouts, in order: kinds, and of steps the step."""
        return [
            msgspec.json.decode(one.body)["step"] if one.kind == "rollout" else one.kind
            for one in self.written
            if one.kind in {"rollout", "canary", "promotion", "rollback", "alert"}
        ]


@dataclass
class MortalLedger(MemoryLedger):
    """A ledger in the hands of a process that may die before or after a write."""

    life: Life = field(default_factory=Life)

    def append(self, *args: object, **named: object) -> Entry:
        self.life.step()
        entry = super().append(*args, **named)  # type: ignore[arg-type]  # as they came
        self.life.step()
        return entry


@dataclass
class Answers:
    """A gatekeeper that says yes, but where it was told otherwise."""

    refuses: dict[str, PratiqueError] = field(default_factory=dict)
    """By method, or by method and digest."""
    asked: list[str] = field(default_factory=list)
    attested: list[Canary] = field(default_factory=list)

    def admit(self, subject: Subject) -> None:
        self._ask("admit", subject)

    def attest(self, subject: Subject, canary: Canary) -> None:
        self._ask("attest", subject)
        self.attested.append(canary)

    def release(self, subject: Subject) -> None:
        self._ask("release", subject)

    def trust(self, subject: Subject) -> None:
        self._ask("trust", subject)

    def _ask(self, method: str, subject: Subject) -> None:
        self.asked.append(f"{method} {subject.digest}")
        for key in (method, f"{method} {subject.digest}"):
            if key in self.refuses:
                raise self.refuses[key]


@dataclass
class Heard:
    """An alert sink that remembers."""

    name: str = "heard"
    alerts: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        self.alerts.append(alert)

    @property
    def events(self) -> list[str]:
        return [one.event for one in self.alerts]


def steady(
    per_second: float, *, slower: float = 1.0, errors: float = 0.0, seed: int = 1
) -> Callable[[float], Measured]:
    """Measure so many requests for each second since the beginning, each the same whenever it is asked for."""
    random = np.random.default_rng(seed)
    latencies = [float(one) * slower for one in random.lognormal(np.log(0.08), 0.4, 20_000)]
    failed = [float(one) for one in random.random(20_000) < errors]

    def measured(seconds: float) -> Measured:
        count = int(per_second * seconds)
        return {"error": failed[:count], "latency_seconds": latencies[:count]}

    return measured


@dataclass
class World:
    """All that a rollout works with."""

    time: ManualTime = field(default_factory=ManualTime)
    target: FakeTarget = field(default_factory=FakeTarget)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    gate: Answers = field(default_factory=Answers)
    heard: Heard = field(default_factory=Heard)
    settings: PromotionSettings = SETTINGS

    def __post_init__(self) -> None:
        self.target.time = self.time
        for digest in (A, B, C, D):
            self.target.script[digest] = steady(1.0, seed=2)
        self.target.script[A] = steady(19.0)

    def desk(self, *, ledger: MemoryLedger | None = None, target: FakeTarget | None = None) -> Desk:
        return Desk(
            environment=ENVIRONMENT,
            actor="somebody",
            target=target or self.target,
            ledger=ledger or self.ledger,
            gatekeeper=self.gate,
            alerts=(self.heard,),
            pace=self.time,
            settings=self.settings,
        )

    @property
    def history(self) -> History:
        return self.desk().book().history()

    def released(self, *digests: Digest) -> None:
        """Have some releases behind it, the last of which runs."""
        for digest in digests:
            body = Released(rollout=digest_of(digest.encode()), target="fake", repository=REPOSITORY, baseline=None)
            self.ledger.append("promotion", digest, body, environment=ENVIRONMENT, actor="somebody")
            self.target.stable = digest


def subject(digest: Digest) -> Subject:
    return Subject(REPOSITORY, digest)


def no(what: str = "no") -> RefusedError:
    return RefusedError(what)
