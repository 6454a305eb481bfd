"""A server that sends a byte now and then holds nobody: not with a head, not with a body."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import urllib3

from pratique.release.errors import UnavailableError
from pratique.release.impatience import ImpatientPools, pieces_of
from pratique.release.mirror.errors import UpstreamError
from pratique.release.mirror.interface import IndexFile
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.mirror.sources import HttpIndex
from pratique.release.promotion.alerts import WebhookAlerts
from pratique.release.promotion.interface import Alert
from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.settings import RegistrySettings
from pratique.release.triage.feed_source import FeedUnavailableError, fetch
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

DIGEST = digest_of(b"x")
ALERT = Alert(
    event="aborted",
    rollout=DIGEST,
    environment="production",
    target="local",
    repository="registry.test/app",
    digest=DIGEST,
    baseline=None,
    at=datetime(2026, 1, 1, tzinfo=UTC),
    summary="a canary failed",
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nContent-Type: application/octet-stream\r\n\r\n"


class Dripping:
    """Sends so much of an answer at once, and the rest byte for byte, until it is told to stop."""

    def __init__(self, at_once: bytes) -> None:
        self._at_once = at_once
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError), self._listener.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(self._at_once)
                while not self._stop.wait(0.02):
                    peer.sendall(b"x")

    def close(self) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture(params=[b"", HEAD], ids=["head", "body"])
def server(request: pytest.FixtureRequest) -> Iterator[Dripping]:
    dripping = Dripping(request.param)
    yield dripping
    dripping.close()


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 0.9


def test_pools_and_pieces_end(server: Dripping) -> None:
    pools = ImpatientPools(retries=False, timeout=urllib3.Timeout(connect=1, read=0.1))

    def ask() -> list[bytes]:
        answer = pools.request("GET", f"http://127.0.0.1:{server.port}/", preload_content=False)
        return list(pieces_of(answer, time.monotonic() + 0.1))

    with soon(), pytest.raises(urllib3.exceptions.HTTPError):
        ask()


def test_a_registry_holds_nobody(server: Dripping) -> None:
    settings = RegistrySettings(attempts=1, read_seconds=0.1, deadline_seconds=0.1, transfer_seconds=0.1)
    client = HttpRegistry(settings, AuthFiles(()))
    repository = f"127.0.0.1:{server.port}/app"
    with soon(), pytest.raises(UnavailableError):
        client.manifest(repository, DIGEST)
    with soon(), pytest.raises(UnavailableError):
        client.blob(repository, DIGEST, max_bytes=100_000)


def test_an_upstream_index_holds_nobody(server: Dripping) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    index = HttpIndex(MirrorSettings(upstream=url, read_seconds=0.1, deadline_seconds=0.1, transfer_seconds=0.1))
    with soon(), pytest.raises(UpstreamError):
        index.project("a")
    with soon(), pytest.raises(UpstreamError):
        list(index.read(IndexFile(filename="a", url=url)))


def test_a_feed_holds_nobody(server: Dripping) -> None:
    url = f"http://127.0.0.1:{server.port}/all.zip"
    with (
        soon(),
        pytest.raises(FeedUnavailableError),
        fetch(url, etag="", seconds=0.1, max_bytes=100_000),
    ):
        pass


def test_a_webhook_keeps_no_rollback_waiting(server: Dripping) -> None:
    hook = WebhookAlerts(f"http://127.0.0.1:{server.port}/", deadline_seconds=0.1)
    with soon(), contextlib.suppress(UnavailableError):  # that it says yes and no more is enough
        hook.send(ALERT)


@pytest.mark.parametrize("timeout", [urllib3.Timeout(5), urllib3.Timeout(None)])
def test_what_comes_in_time_is_given_as_it_came(timeout: urllib3.Timeout) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept()[0] as peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nab")
            time.sleep(0.02)
            peer.sendall(b"cdef")

    thread = threading.Thread(target=serve)
    thread.start()
    with ImpatientPools(retries=False, timeout=timeout) as pools:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        answer = pools.request("GET", url, preload_content=False)
        assert b"".join(pieces_of(answer, time.monotonic() + 5)) == b"abcdef"
    thread.join(5)
    listener.close()
