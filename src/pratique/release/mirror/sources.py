"""Sources of files: an upstream index over HTTP, and a folder. Both behind `interface.Source`.

Over HTTP: TLS but on this machine, deadlines and sizes for every answer, no redirect from TLS to plain HTTP, no login.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

import urllib3

from pratique.release.impatience import ImpatientPools, pieces_of
from pratique.release.mirror.approved import version_of_file
from pratique.release.mirror.errors import UpstreamError
from pratique.release.mirror.index import JSON_TYPE, parse_project
from pratique.release.mirror.interface import IndexFile, IndexProject
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.values import Digest

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

__all__ = ["FolderSource", "HttpIndex"]

_CHUNK: Final = 256 * 1024
_MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_OK, _NOT_FOUND, _GONE = 200, 404, 410


class HttpIndex:
    """An index that answers in JSON."""

    def __init__(self, settings: MirrorSettings) -> None:
        self.name = settings.upstream
        self._settings = settings
        self._pool = ImpatientPools(
            retries=False,
            ca_certs=str(settings.ca_file) if settings.ca_file is not None else None,
            timeout=urllib3.Timeout(connect=settings.connect_seconds, read=settings.read_seconds),
        )

    def project(self, name: str) -> IndexProject | None:
        """Return a project's page."""
        url = f"{self.name.rstrip('/')}/{name}/"
        deadline = time.monotonic() + self._settings.deadline_seconds
        with self._answer(url, {"Accept": JSON_TYPE}) as (response, final):
            if response.status in {_NOT_FOUND, _GONE}:
                return None
            self._require_ok(response, url)
            body = bytearray()
            for piece in _pieces(response, url, deadline):
                body += piece
                if len(body) > _MAX_PAGE_BYTES:
                    raise UpstreamError(f"{url}: the page has more than {_MAX_PAGE_BYTES} bytes")
        return parse_project(bytes(body), final, name)

    def read(self, file: IndexFile) -> Iterator[bytes]:
        """Read a file."""
        yield from self._read(file.url)

    def read_metadata(self, file: IndexFile) -> bytes | None:
        """Return the metadata that is offered beside a file, if it is what the page says (PEP 658)."""
        if file.metadata is None:
            return None
        body = b"".join(self._read(f"{file.url}.metadata", _MAX_PAGE_BYTES))
        return body if f"sha256:{hashlib.sha256(body).hexdigest()}" == file.metadata else None

    def _read(self, url: str, max_bytes: int | None = None) -> Iterator[bytes]:
        deadline = time.monotonic() + self._settings.transfer_seconds
        size = 0
        with self._answer(url, {}) as (response, _):
            self._require_ok(response, url)
            for piece in _pieces(response, url, deadline):
                size += len(piece)
                if size > (max_bytes or self._settings.max_file_bytes):
                    raise UpstreamError(f"{url}: more than {max_bytes or self._settings.max_file_bytes} bytes")
                yield piece

    @contextlib.contextmanager
    def _answer(self, url: str, headers: dict[str, str]) -> Iterator[tuple[BaseHTTPResponse, str]]:
        """Send a request, go where redirects lead, give the answer and its address."""
        for _ in range(_MAX_REDIRECTS + 1):
            with _translated(url):
                self._require_allowed(url)
                response = self._pool.request(
                    "GET",
                    url,
                    headers={"User-Agent": "pratique", "Accept-Encoding": "identity", **headers},
                    redirect=False,
                    preload_content=False,
                )
            if response.status not in _REDIRECTS:
                try:
                    yield response, url
                finally:
                    response.close()
                return
            response.close()
            with _translated(url):
                url = urljoin(url, response.headers.get("Location", ""))
        raise UpstreamError(f"{url}: the upstream redirects more than {_MAX_REDIRECTS} times")

    def _require_allowed(self, url: str) -> None:
        parts = urlsplit(url)
        is_local = urlsplit(self.name).scheme == "http" and parts.hostname in _LOOPBACK
        if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
            raise UpstreamError(f"'{url[:200]}' is not asked: only https is, and plain http on this machine")

    def _require_ok(self, response: BaseHTTPResponse, url: str) -> None:
        if response.status != _OK:
            raise UpstreamError(f"{url}: the upstream answered {response.status}")


def _pieces(response: BaseHTTPResponse, url: str, deadline: float) -> Iterator[bytes]:
    with _translated(url):
        yield from pieces_of(response, deadline)


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:  # ValueError: what is no address
        raise UpstreamError(f"{url}: the upstream does not answer: {error}") from error


class FolderSource:
    """A folder of wheels and source archives: what was built here, or carried in."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def project(self, name: str) -> IndexProject | None:
        """Return the files in the folder that are of this project."""
        with _readable(self._folder):
            files = sorted(one for one in self._folder.iterdir() if (version_of_file(one.name) or ("",))[0] == name)
            found = tuple(IndexFile(filename=one.name, url=str(one), digest=_digest(one)) for one in files)
        return IndexProject(name=name, files=found) if found else None

    def read(self, file: IndexFile) -> Iterator[bytes]:
        """Read a file."""
        with _readable(self._folder), Path(file.url).open("rb") as opened:
            while piece := opened.read(_CHUNK):
                yield piece


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UpstreamError(f"the folder {folder} cannot be read: {error}") from error


def _digest(path: Path) -> Digest:
    with path.open("rb") as opened:
        return Digest(f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}")
