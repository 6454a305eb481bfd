"""The watcher: killed at any moment, lied to by its feed, and with sinks that fail; then what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from tests.unit.release.policy.shell_parts import ListLedger
from tests.unit.release.triage.triage_parts import NOW, fill, purl, record, released, sbom

from pratique.core.clock import ManualClock
from pratique.release.errors import UnavailableError
from pratique.release.triage import feed, feed_state
from pratique.release.triage.alerts import AlertSink, FeedAlert, LedgerSink, LineSink, Noted
from pratique.release.triage.feed import Watcher
from pratique.release.triage.feed_source import FeedUnavailableError, fetch
from pratique.release.triage.feed_state import FeedState, FeedStateError
from pratique.release.triage.index import IndexUnavailableError, TriageIndex
from pratique.release.triage.places import read_places
from pratique.release.triage.settings import TriageSettings
from pratique.release.values import Digest

pytestmark = pytest.mark.unit


class KilledError(BaseException):
    """The process is gone."""


@dataclass
class Ear:
    """Hears alerts; can be deaf, and can kill the watcher before or after it heard."""

    name: str = "ear"
    heard: list[FeedAlert] = field(default_factory=list)
    is_deaf: bool = False
    kills: str = ""

    def send(self, alert: FeedAlert) -> None:
        if self.kills == "before":
            raise KilledError
        if self.is_deaf:
            raise UnavailableError("it is not taken")
        self.heard.append(alert)
        if self.kills == "after":
            raise KilledError


@dataclass
class Desk:
    folder: Path
    ear: Ear = field(default_factory=Ear)
    more: tuple[AlertSink, ...] = ()
    is_dry_run: bool = False

    def __post_init__(self) -> None:
        (self.folder / "feed").mkdir()
        with self.index(may_make=True) as index:
            image = fill(index, "one", sbom(purl("requests", "1.0")))
            index.put_places(read_places([released(0, image)]))

    def index(self, *, may_make: bool = False) -> TriageIndex:
        return TriageIndex(self.folder / "triage.db", may_make=may_make)

    def publish(self, name: str, package: str = "requests", *, fixed: str = "2.0", **more: str) -> None:
        content = msgspec.json.encode(record(name, package, fixed=fixed, **more))
        (self.folder / "feed" / f"{name}.json").write_bytes(content)

    def round(self, *sources: str) -> feed.Round:
        with FeedState(self.folder / "feed.db", is_dry_run=self.is_dry_run) as state:
            sinks = (self.ear, *self.more)
            clock = ManualClock(epoch_seconds=NOW.timestamp())
            named = sources or (str(self.folder / "feed"),)
            return Watcher(named, state, self.index, sinks, TriageSettings(), clock).once()

    @property
    def news(self) -> list[tuple[str, str]]:
        return [(one.advisory, one.news) for one in self.ear.heard]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("kills", ["before", "after"])
def test_a_watcher_that_is_killed_while_telling_loses_nothing(desk: Desk, kills: str) -> None:
    desk.publish("PYSEC-2026-1")
    desk.publish("PYSEC-2026-2")
    desk.ear.kills = kills
    with pytest.raises(KilledError):
        desk.round()
    desk.ear.kills = ""
    desk.round()
    assert {one.advisory for one in desk.ear.heard} == {"PYSEC-2026-1", "PYSEC-2026-2"}
    assert len({one.id for one in desk.ear.heard}) == 2
    assert len(desk.ear.heard) == (2 if kills == "before" else 3)


def test_a_watcher_that_is_killed_before_it_notes_finds_the_news_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.publish("PYSEC-2026-1")

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(FeedState, "note", killed)
        with pytest.raises(KilledError):
            desk.round()
    desk.round()
    assert desk.news == [("PYSEC-2026-1", "new")]


def test_what_a_sink_did_not_take_is_told_later_in_order_and_others_are_told_at_once(desk: Desk) -> None:
    lines: list[str] = []
    desk.more = (LineSink(lines.append),)
    desk.publish("PYSEC-2026-1")
    desk.ear.is_deaf = True
    result = desk.round()
    assert (result.exit_code, result.num_waiting, len(lines)) == (3, 1, 1)
    desk.publish("PYSEC-2026-2")
    desk.ear.is_deaf = False
    assert desk.round().exit_code == 0
    assert [name for name, _ in desk.news] == ["PYSEC-2026-1", "PYSEC-2026-2"]
    assert [msgspec.json.decode(one)["advisory"] for one in lines] == ["PYSEC-2026-1", "PYSEC-2026-2"]


def test_a_record_that_cannot_be_read_is_a_problem_until_it_can(desk: Desk) -> None:
    bad = desk.folder / "feed" / "PYSEC-2026-1.json"
    bad.write_bytes(b'{"id": 7}')
    desk.publish("PYSEC-2026-2")
    for _ in range(2):
        assert desk.round().exit_code == 3
    desk.publish("PYSEC-2026-1")
    assert desk.round().exit_code == 0
    assert [name for name, _ in desk.news] == ["PYSEC-2026-2", "PYSEC-2026-1"]


def test_a_feed_that_is_not_there_keeps_no_other_from_being_read(desk: Desk) -> None:
    desk.publish("PYSEC-2026-1")
    result = desk.round(str(desk.folder / "nowhere.zip"), str(desk.folder / "feed"))
    assert result.exit_code == 3
    assert desk.news == [("PYSEC-2026-1", "new")]


def test_more_alerts_than_are_read_at_once_are_told_in_order(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_state, "_AT_ONCE", 2)
    for number in range(5):
        desk.publish(f"PYSEC-2026-{number}")
    assert desk.round().exit_code == 0
    assert [name for name, _ in desk.news] == [f"PYSEC-2026-{number}" for number in range(5)]


def test_a_full_outbox_reads_no_more_and_forgets_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MAX_WAITING", 1)
    monkeypatch.setattr(feed, "_BATCH", 1)
    desk.ear.is_deaf = True
    for number in range(3):
        desk.publish(f"PYSEC-2026-{number}")
    assert desk.round().num_waiting == 1
    desk.ear.is_deaf = False
    for _ in range(3):
        desk.round()
    assert [name for name, _ in desk.news] == [f"PYSEC-2026-{number}" for number in range(3)]


def test_without_an_index_nothing_is_noted(desk: Desk) -> None:
    desk.publish("PYSEC-2026-1")
    (desk.folder / "triage.db").rename(desk.folder / "away.db")
    with pytest.raises(IndexUnavailableError):
        desk.round()
    (desk.folder / "away.db").rename(desk.folder / "triage.db")
    desk.round()
    assert desk.news == [("PYSEC-2026-1", "new")]


def test_a_state_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "feed.db").write_bytes(b"no database" * 100)
    with pytest.raises(FeedStateError):
        FeedState(tmp_path / "feed.db")


@pytest.mark.parametrize("make", [lambda path: path / "none.zip", lambda path: path / "no" / "feed"])
def test_a_local_feed_that_cannot_be_read_is_unavailable(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(FeedUnavailableError), fetch(str(make(tmp_path)), etag="", seconds=1, max_bytes=1):
        pass


def test_an_archive_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    archive = tmp_path / "all.zip"
    archive.write_bytes(b"one")
    with fetch(str(archive), etag="", seconds=1, max_bytes=1) as first:
        assert first is not None
    with fetch(str(archive), etag=first.etag, seconds=1, max_bytes=1) as again:
        assert again is None


def test_news_are_told_once_and_what_concerns_nothing_is_not_told(desk: Desk) -> None:
    desk.publish("PYSEC-2026-1")
    desk.publish("PYSEC-2026-2", "django")
    assert (desk.round().num_news, desk.round().num_news) == (2, 0)
    assert desk.news == [("PYSEC-2026-1", "new")]
    (alert,) = desk.ear.heard
    assert alert.answer.running[0].places[0].environment == "production"


def test_the_same_record_in_two_sources_is_one_piece_of_news(desk: Desk) -> None:
    desk.publish("PYSEC-2026-1")
    copy = desk.folder / "copy"
    copy.mkdir()
    (copy / "x.json").write_bytes((desk.folder / "feed" / "PYSEC-2026-1.json").read_bytes())
    desk.round(str(desk.folder / "feed"), str(copy))
    assert desk.news == [("PYSEC-2026-1", "new")]


def test_changes_withdrawals_and_all_clears_are_told(desk: Desk) -> None:
    desk.publish("PYSEC-2026-1")
    desk.publish("PYSEC-2026-2")
    desk.round()
    desk.publish("PYSEC-2026-1", fixed="3.0")
    desk.round()
    desk.publish("PYSEC-2026-1", fixed="0.5")
    desk.publish("PYSEC-2026-2", withdrawn="2026-02-01T00:00:00Z")
    desk.round()
    assert [news for _, news in desk.news] == ["new", "new", "changed", "cleared", "withdrawn"]


def test_a_dry_run_tells_and_remembers_nothing(desk: Desk) -> None:
    desk.publish("PYSEC-2026-1")
    desk.is_dry_run = True
    for _ in range(2):
        desk.round()
    assert desk.news == [("PYSEC-2026-1", "new")] * 2
    assert not (desk.folder / "feed.db").exists()
    desk.is_dry_run = False
    desk.round()
    desk.is_dry_run = True
    assert desk.round().num_news == 0


@pytest.fixture
def ledger() -> ListLedger:
    return ListLedger()


def test_the_ledger_has_each_alert_once_about_what_runs(desk: Desk, ledger: ListLedger) -> None:
    ledger.append("alert", desk_image(desk), {"other": 1}, environment="production", actor="x")
    desk.publish("PYSEC-2026-1")
    desk.round()
    sink = LedgerSink(ledger, "watcher")
    for _ in range(2):
        sink.send(desk.ear.heard[0])
    (_, entry) = ledger.entries(kinds=("alert",))
    assert (entry.environment, entry.actor) == ("production", "watcher")
    assert msgspec.json.decode(entry.body, type=Noted).num_images == 1


def test_what_does_not_run_is_an_entry_about_the_news(desk: Desk, ledger: ListLedger) -> None:
    with desk.index(may_make=True) as index:
        index.put_places(())
    desk.publish("PYSEC-2026-1")
    desk.more = (LedgerSink(ledger, "watcher"),)
    desk.round()
    (entry,) = ledger.entries()
    assert entry.subject == desk.ear.heard[0].id


def desk_image(desk: Desk) -> Digest:
    with desk.index() as index:
        return index.places()[0].digest
