"""The watcher of feeds: finds new and changed advisories, asks the index what they mean, and tells.

A round: 1. what is left in the outbox is told; 2. each source is fetched where it changed; 3. each record that is not
as it was is read and asked about, and noted with its alert; 4. the outbox is told. An advisory that concerns nothing
here is noted and not told, unless something was told of it before. What cannot be read is not noted: it is a problem of
this round, and of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pratique.core.clock import Clock
from pratique.core.errors import PratiqueError
from pratique.release.advisories.errors import AdvisoryDataError
from pratique.release.advisories.records import Advisory, parse_record
from pratique.release.advisories.sources import RawRecord, read_source
from pratique.release.decoding import decode_json
from pratique.release.triage.alerts import AlertSink, FeedAlert
from pratique.release.triage.asking import answer
from pratique.release.triage.feed_source import FeedUnavailableError, fetch
from pratique.release.triage.feed_state import FeedState, Seen
from pratique.release.triage.index import TriageIndex
from pratique.release.triage.settings import TriageSettings
from pratique.release.values import Digest, digest_of

__all__ = ["Round", "Watcher", "alert_id"]

_BATCH: Final = 200
_MAX_WAITING: Final = 10_000
"""In the outbox. When it is full nothing more is read; what was not read is news in the next round."""
_MAX_IMAGES: Final = 100
"""Digests in an alert; all are counted, and all that run are told."""


@dataclass(slots=True)
class Round:
    """What came of one round."""

    num_news: int = 0
    num_alerts: int = 0
    num_waiting: int = 0
    """What nobody took yet."""
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: all news were read and told; 3: not all."""
        return 3 if self.problems or self.num_waiting else 0


def alert_id(advisory: str, record: Digest) -> Digest:
    """Return the id of the news that a record holds."""
    return digest_of(f"{advisory}\n{record}".encode())


@dataclass(frozen=True, slots=True)
class Watcher:
    """Watches some sources in the name of some sinks."""

    sources: tuple[str, ...]
    state: FeedState
    open_index: Callable[[], TriageIndex]
    """Opened anew in each round: it may be another file."""
    sinks: Sequence[AlertSink]
    settings: TriageSettings
    clock: Clock

    def once(self) -> Round:
        """Do one round.

        Raises:
            UnavailableError: the state or the index cannot be used; nothing was noted that was not told or kept.
        """
        result = Round()
        self._deliver(result)
        with self.open_index() as index:
            for source in self.sources:
                try:
                    self._read(source, index, result)
                except (AdvisoryDataError, FeedUnavailableError) as error:
                    result.problems.append(error.message)
        self._deliver(result)
        result.num_waiting = self.state.num_waiting()
        return result

    def _read(self, source: str, index: TriageIndex, result: Round) -> None:
        with fetch(
            source,
            etag=self.state.etag(source),
            seconds=self.settings.fetch_seconds,
            max_bytes=self.settings.max_feed_bytes,
        ) as fetched:
            if fetched is None:
                return
            num_problems = len(result.problems)
            for batch in _batches(self._news(source, str(fetched.path))):
                if self.state.num_waiting() >= _MAX_WAITING:
                    result.problems.append(f"{_MAX_WAITING} alerts wait to be taken; nothing more is read before")
                    break
                self._note(batch, index, result)
            if len(result.problems) == num_problems:
                self.state.put_etag(source, fetched.etag)

    def _news(self, source: str, path: str) -> Iterator[tuple[Seen, RawRecord]]:
        known = self.state.seen(source)
        for raw in read_source(Path(path)):
            seen = Seen(source, raw.where.removeprefix(path), digest_of(raw.content))
            if known.get(seen.name) != seen.digest:
                yield seen, raw

    def _note(self, batch: list[tuple[Seen, RawRecord]], index: TriageIndex, result: Round) -> None:
        noted, alerts = [], []
        for seen, raw in batch:
            try:
                advisory = parse_record(raw.content)
            except AdvisoryDataError as error:
                result.problems.append(f"{raw.where}: {error.message}")
                continue
            noted.append(seen)
            alert = self._ask(advisory, seen, index)
            if alert is not None:
                alerts.append(alert)
        self.state.note(noted, alerts, [one.name for one in self.sinks])
        result.num_news += len(noted)
        result.num_alerts += len(alerts)

    def _ask(self, advisory: Advisory, seen: Seen, index: TriageIndex) -> FeedAlert | None:
        found = answer(advisory.id, (advisory,), index, max_images=_MAX_IMAGES)
        last, this = self.state.told(advisory.id), alert_id(advisory.id, seen.digest)
        if last == this or (last is None and not found.is_affected):  # the first: another source has it, too
            return None
        now = datetime.fromtimestamp(self.clock.epoch(), UTC)
        told = "new" if last is None else "changed"
        if not found.is_affected:
            told = "cleared" if advisory.withdrawn is None else "withdrawn"
        return FeedAlert(
            id=this,
            advisory=advisory.id,
            news=told,  # type: ignore[arg-type]  # the four words
            at=now,
            answer=found,
        )

    def _deliver(self, result: Round) -> None:
        """Tell what waits. A sink that fails is left alone for the rest of this go, and keeps its order."""
        sinks = {one.name: one for one in self.sinks}
        failed: set[str] = set()
        for number, name, body in self.state.waiting():
            if name in failed or name not in sinks:
                continue
            try:
                sinks[name].send(decode_json(body, FeedAlert))
            except PratiqueError as error:
                failed.add(name)
                result.problems.append(f"{name}: {error.message}")
                continue
            self.state.delivered(number)


def _batches(news: Iterator[tuple[Seen, RawRecord]]) -> Iterator[list[tuple[Seen, RawRecord]]]:
    batch: list[tuple[Seen, RawRecord]] = []
    for one in news:
        batch.append(one)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
