"""Where news come from: a folder or an archive on this machine, or one behind an address, fetched when it changed."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pratique.release.errors import UnavailableError

if TYPE_CHECKING:
    import urllib3

__all__ = ["FeedUnavailableError", "Fetched", "fetch"]

_OK: Final = 200
_NOT_MODIFIED: Final = 304


class FeedUnavailableError(UnavailableError):
    """A feed does not answer, or with something that is no feed: whether there is news is not known."""

    code = "feed_unavailable"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source, ready to be read."""

    path: Path
    etag: str
    """What its state is called; empty where it has no name: it is read each time."""


@contextmanager
def fetch(source: str, *, etag: str, seconds: float, max_bytes: int) -> Iterator[Fetched | None]:
    """Make a source readable while the body runs; None: it is as it was.

    Args:
        source: a folder, an archive, or an http(s) address of one.
        etag: what its state was called when it was read last.
        seconds: until all of it is here; for the connection as long again.
        max_bytes: of what is fetched.

    Raises:
        FeedUnavailableError: it cannot be read.
    """
    if not source.startswith(("http://", "https://")):
        with _local(Path(source), etag) as fetched:
            yield fetched
        return
    with tempfile.NamedTemporaryFile(prefix="pratique-feed-", suffix=".zip") as file:
        now = _download(source, etag, file.file, seconds=seconds, max_bytes=max_bytes)
        file.flush()
        yield None if now is None else Fetched(Path(file.name), now)


@contextmanager
def _local(path: Path, etag: str) -> Iterator[Fetched | None]:
    if path.is_dir():
        yield Fetched(path, "")
        return
    try:
        with path.open("rb") as file:
            now = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FeedUnavailableError(f"the feed {path} cannot be read: {error.strerror}") from error
    yield None if now == etag else Fetched(path, now)


def _download(source: str, etag: str, file: IO[bytes], *, seconds: float, max_bytes: int) -> str | None:
    import urllib3

    from pratique.release.impatience import ImpatientPools

    headers = {"if-none-match": etag} if etag else {}
    timeout = urllib3.Timeout(connect=seconds, read=seconds)
    try:
        with ImpatientPools(retries=urllib3.Retry(0, redirect=3), timeout=timeout) as http:
            answer = http.request("GET", source, headers=headers, preload_content=False)
            try:
                return _save(answer, file, max_bytes, deadline=time.monotonic() + seconds)
            finally:
                answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise FeedUnavailableError(f"the feed could not be fetched: {type(error).__name__}") from error


def _save(answer: urllib3.BaseHTTPResponse, file: IO[bytes], max_bytes: int, *, deadline: float) -> str | None:
    from pratique.release.impatience import pieces_of

    if answer.status == _NOT_MODIFIED:
        return None
    if answer.status != _OK:
        raise FeedUnavailableError(f"the feed answered with status {answer.status}")
    num_bytes = 0
    for chunk in pieces_of(answer, deadline):
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            raise FeedUnavailableError(f"the feed has more than {max_bytes} bytes")
        file.write(chunk)
    return answer.headers.get("etag", "")
