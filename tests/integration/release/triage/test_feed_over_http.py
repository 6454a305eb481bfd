"""The watcher against real servers: a feed with an ETag, and a webhook that is down, slow or wrong for a while."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from tests.unit.release.triage.triage_parts import NOW, fill, purl, record, sbom

from pratique.core.clock import ManualClock
from pratique.release.errors import UnavailableError
from pratique.release.triage.alerts import FeedAlert, WebhookSink
from pratique.release.triage.feed import Round, Watcher
from pratique.release.triage.feed_source import FeedUnavailableError, fetch
from pratique.release.triage.feed_state import FeedState
from pratique.release.triage.index import TriageIndex
from pratique.release.triage.settings import TriageSettings

pytestmark = pytest.mark.integration


@dataclass
class Site:
    """What a server has, and what it was asked."""

    feed: bytes = b""
    etag: str = '"1"'
    gets: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """The statuses of the next posts; 200 where there is none left."""
    posts: list[tuple[str, bytes]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    site: ClassVar[Site]

    def do_GET(self) -> None:
        status = 404 if not self.site.feed else 304 if self.headers.get("if-none-match") == self.site.etag else 200
        self.site.gets.append(status)
        body = self.site.feed if status == 200 else b""
        self.send_response(status)
        self.send_header("etag", self.site.etag)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.site.posts.append((self.headers["idempotency-key"], body))
        self.send_response(self.site.answers.pop(0) if self.site.answers else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    handler = type("Bound", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/all.zip"
    server.shutdown()
    thread.join()
    server.server_close()


def publish(site: Site, folder: Path, *names: str) -> None:
    archive = folder / "all.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in names:
            opened.writestr(f"{name}.json", msgspec.json.encode(record(name, "requests", fixed="2.0")))
    site.feed, site.etag = archive.read_bytes(), f'"{len(names)}"'


def watch(folder: Path, address: str, *, pauses: list[float] | None = None) -> Round:
    with TriageIndex(folder / "triage.db", may_make=True) as index:
        fill(index, "one", sbom(purl("requests", "1.0")))
    sink = WebhookSink(address, 2.0, 3, wait=(pauses if pauses is not None else []).append)
    with FeedState(folder / "feed.db") as state:
        clock = ManualClock(epoch_seconds=NOW.timestamp())
        open_index = lambda: TriageIndex(folder / "triage.db")  # noqa: E731
        return Watcher((address,), state, open_index, (sink,), TriageSettings(), clock).once()


def test_news_come_once_and_an_unchanged_feed_is_not_fetched(site: Site, address: str, tmp_path: Path) -> None:
    publish(site, tmp_path, "PYSEC-2026-1")
    watch(tmp_path, address)
    watch(tmp_path, address)
    publish(site, tmp_path, "PYSEC-2026-1", "PYSEC-2026-2")
    assert watch(tmp_path, address).exit_code == 0
    assert site.gets == [200, 304, 200]
    told = [msgspec.json.decode(body, type=FeedAlert) for _, body in site.posts]
    assert [one.advisory for one in told] == ["PYSEC-2026-1", "PYSEC-2026-2"]
    assert [key for key, _ in site.posts] == [one.id for one in told]


def test_a_webhook_that_fails_is_tried_again_and_nothing_is_lost(site: Site, address: str, tmp_path: Path) -> None:
    publish(site, tmp_path, "PYSEC-2026-1")
    site.answers = [503, 500, 429, 400]
    pauses: list[float] = []
    assert (watch(tmp_path, address, pauses=pauses).num_waiting, len(pauses)) == (1, 2)
    assert watch(tmp_path, address).num_waiting == 0
    assert len({key for key, _ in site.posts}) == 1
    assert len(site.posts) == 5


def test_a_feed_that_is_gone_too_large_or_no_archive_is_a_problem(site: Site, address: str, tmp_path: Path) -> None:
    assert watch(tmp_path, address).exit_code == 3  # 404
    site.feed = b"no archive"
    assert watch(tmp_path, address).exit_code == 3
    assert watch(tmp_path, "http://127.0.0.1:1/all.zip").exit_code == 3
    with pytest.raises(FeedUnavailableError, match="more than 3"), fetch(address, etag="", seconds=2, max_bytes=3):
        pass


def test_a_webhook_that_is_not_there_is_unavailable_and_its_address_is_not_shown(
    site: Site, address: str, tmp_path: Path
) -> None:
    publish(site, tmp_path, "PYSEC-2026-1")
    watch(tmp_path, address)
    alert = msgspec.json.decode(site.posts[0][1], type=FeedAlert)
    with pytest.raises(UnavailableError) as raised:
        WebhookSink("http://127.0.0.1:1/secret", 1.0, 1).send(alert)
    assert "secret" not in raised.value.message
