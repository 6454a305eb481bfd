"""Registries over HTTP: the OCI distribution specification 1.1 as a client. Digests are checked on everything.

What changes nothing, or the same thing twice, is repeated; a conditional write is sent once, because a second one would
meet what the first one wrote. Whether a registry holds conditions it must say itself: see `has_conditional_writes`.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Final, cast
from urllib.parse import quote, urlencode, urljoin

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import UnavailableError, VerificationError
from pratique.release.registry._answers import expect, next_page
from pratique.release.registry._authorizing import Scope
from pratique.release.registry._http import Answer, Ask, Http, read_beginning, read_pieces
from pratique.release.registry._reading import CheckedReader, FileSlice, blob_of, check_digest
from pratique.release.registry.credentials import Credentials
from pratique.release.registry.errors import RegistryRefusedError
from pratique.release.registry.interface import IMAGE_INDEX, Blob, Manifest
from pratique.release.registry.manifests import MANIFEST_TYPES, MAX_MANIFEST_BYTES, merge_indexes, read_manifest
from pratique.release.registry.names import parse_reference, parse_repository
from pratique.release.registry.rules import FRONT_HEADER, Condition
from pratique.release.registry.settings import RegistrySettings
from pratique.release.values import Digest, digest_of

__all__ = ["HttpRegistry"]

_OCTETS: Final = "application/octet-stream"
_MAX_PAGES: Final = 1_000
_MAX_REFERRERS_PAGES: Final = 64
_MISSING: Final = (404, 405, 400)


class _Tags(msgspec.Struct, frozen=True):
    tags: list[str] | None = None


class HttpRegistry:
    """Any number of registries."""

    def __init__(self, settings: RegistrySettings, credentials: Credentials) -> None:
        self._settings = settings
        self._http = Http(settings, credentials)
        self._conditional: dict[str, bool] = {}
        self._lock = threading.Lock()

    def manifest(self, repository: str, reference: str) -> Manifest:
        parse_reference(reference)
        ask = self._ask("GET", repository, f"manifests/{reference}", max_bytes=MAX_MANIFEST_BYTES)
        ask = replace(ask, headers={"Accept": ", ".join(MANIFEST_TYPES)})
        answer = expect(self._http.ask(ask), 200)
        digest = digest_of(answer.body)
        named = reference if ":" in reference else answer.headers.get("Docker-Content-Digest", digest)
        if digest != named:
            raise VerificationError(f"{ask}: expected a manifest of digest {named}, got one of {digest}")
        media_type = _media_type(answer)
        read_manifest(answer.body, media_type)
        return Manifest(answer.body, media_type, digest)

    def put_manifest(
        self,
        repository: str,
        reference: str,
        content: bytes,
        media_type: str,
        *,
        only_if: Digest | None = None,
        only_if_absent: bool = False,
    ) -> Digest:
        parse_reference(reference)
        digest = digest_of(content)
        if ":" in reference:
            check_digest(content, Digest(reference), f"the manifest for {repository}")
        condition = Condition(only_if, only_if_absent)
        if condition and not self.has_conditional_writes(repository):
            raise RegistryRefusedError(f"the registry of {repository} ignores conditions, and one was given")
        ask = self._ask("PUT", repository, f"manifests/{reference}", actions="pull,push")
        headers = {"Content-Type": media_type, **_condition_headers(condition)}
        ask = replace(ask, headers=headers, body=lambda: content, may_repeat=not condition)
        answer = expect(self._http.ask(ask), 201)
        if condition and FRONT_HEADER not in answer.headers:
            raise UnavailableError(f"{ask}: was written by a registry that ignores conditions, unlike before")
        _check_told(ask, answer, digest)
        return digest

    def blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        ask = self._ask("GET", repository, f"blobs/{digest}")
        with self.open_blob(repository, digest) as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise VerificationError(f"{ask}: expected at most {max_bytes} bytes")
        return content

    def open_blob(self, repository: str, digest: Digest) -> AbstractContextManager[BinaryIO]:
        return self._opened(self._ask("GET", repository, f"blobs/{digest}"), digest)

    @contextlib.contextmanager
    def _opened(self, ask: Ask, digest: Digest) -> Iterator[BinaryIO]:
        deadline = time.monotonic() + self._settings.transfer_seconds
        with self._http.stream(ask, deadline) as response:
            if response.status != 200:  # noqa: PLR2004 - HTTP's
                body = read_beginning(ask, response, deadline)
                expect(Answer(str(ask), response.status, response.headers, body))
            reader = CheckedReader(read_pieces(ask, response, deadline), digest, str(ask))
            yield io.BufferedReader(reader)

    def put_blob(self, repository: str, content: bytes | Path) -> Blob:
        blob = blob_of(content)
        head = self._ask("HEAD", repository, f"blobs/{blob.digest}", actions="pull,push")
        if self._http.ask(head).status == 200:  # noqa: PLR2004 - HTTP's
            return blob
        for attempt in range(1, self._settings.attempts + 1):
            try:
                with _reading(content) as file:
                    self._upload(repository, file, blob)
            except UnavailableError:
                if attempt == self._settings.attempts:
                    raise
            else:
                break
        return blob

    def tags(self, repository: str) -> Iterator[str]:
        ask = self._ask("GET", repository, "tags/list?n=1000", max_bytes=MAX_MANIFEST_BYTES)
        for _ in range(_MAX_PAGES):
            answer = self._http.ask(ask)
            if answer.status == 404:  # noqa: PLR2004 - HTTP's
                return
            try:
                yield from decode_json(expect(answer, 200).body, _Tags).tags or ()
            except MalformedError as error:
                raise UnavailableError(f"{ask}: expected a list of tags: {error}") from error
            following = next_page(answer, ask.url)
            if not following:
                return
            ask = replace(ask, url=following)
        raise UnavailableError(f"{ask}: the list of tags has more than {_MAX_PAGES} pages")

    def referrers(self, repository: str, digest: Digest) -> Manifest | None:
        ask = self._ask("GET", repository, f"referrers/{digest}", max_bytes=MAX_MANIFEST_BYTES)
        pages: list[bytes] = []
        while True:
            answer = self._http.ask(ask)
            if not pages and (answer.status in _MISSING or _is_other(answer)):
                return None
            if _is_other(expect(answer, 200)) or len(pages) == _MAX_REFERRERS_PAGES:
                raise UnavailableError(f"{ask}: the list of referrers does not end as it began")
            pages.append(answer.body)
            following = next_page(answer, ask.url)
            if not following:
                break
            ask = replace(ask, url=following)
        content = merge_indexes(pages)
        read_manifest(content, IMAGE_INDEX)
        return Manifest(content, IMAGE_INDEX, digest_of(content))

    def has_conditional_writes(self, repository: str) -> bool:
        address = parse_repository(repository).address
        with self._lock:
            known = self._conditional.get(address)
        if known is None:
            ask = replace(self._ask("GET", repository, ""), url=f"{self._http.base_of(address)}/v2/")
            known = FRONT_HEADER in expect(self._http.ask(ask), 200).headers
            with self._lock:
                self._conditional[address] = known
        return known

    def _ask(
        self, method: str, repository: str, path: str, *, actions: str = "pull", max_bytes: int = 1024 * 1024
    ) -> Ask:
        name = parse_repository(repository)
        url = f"{self._http.base_of(name.address)}/v2/{_path_of(name.host, name.path)}/{path}"
        return Ask(method, url, Scope(name, actions), max_bytes=max_bytes)

    def _upload(self, repository: str, file: IO[bytes], blob: Blob) -> None:
        """Begin an upload, send the pieces where there are several, then end it with the digest."""
        deadline = time.monotonic() + self._settings.transfer_seconds
        begin = self._ask("POST", repository, "blobs/uploads/", actions="pull,push")
        begun = expect(self._http.ask(replace(begin, headers={"Content-Length": "0"})), 202)
        location = _location(begin, begun)
        size = max(self._settings.chunk_bytes, _least_piece(begun))
        sent = 0
        while blob.size_bytes > size and sent < blob.size_bytes:
            length = min(size, blob.size_bytes - sent)
            ask = self._sending("PATCH", location, begin, partial(_slice, file, sent, length, deadline), length)
            ranged = {**ask.headers, "Content-Range": f"{sent}-{sent + length - 1}"}
            location = _location(ask, expect(self._http.ask(replace(ask, headers=ranged)), 202, 204))
            sent += length
        url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': blob.digest}, quote_via=quote)}"
        left = blob.size_bytes - sent
        ask = self._sending("PUT", url, begin, partial(_slice, file, sent, left, deadline), left)
        _check_told(ask, expect(self._http.ask(ask), 201), blob.digest)

    def _sending(self, method: str, url: str, begin: Ask, body: Callable[[], IO[bytes]], length: int) -> Ask:
        headers = {"Content-Type": _OCTETS, "Content-Length": str(length)}
        seconds = self._settings.transfer_seconds
        return replace(begin, method=method, url=url, headers=headers, body=body, may_repeat=False, seconds=seconds)


def _path_of(host: str, path: str) -> str:
    return f"library/{path}" if host in {"docker.io", "index.docker.io"} and "/" not in path else path


def _media_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip()


def _is_other(answer: Answer) -> bool:
    """Whether this is a success and no index: a proxy's or an older registry's way to say it knows no referrers."""
    return answer.status == 200 and answer.headers.get("Content-Type", "") != IMAGE_INDEX  # noqa: PLR2004 - HTTP's


def _condition_headers(condition: Condition) -> dict[str, str]:
    headers = {"If-Match": f'"{condition.only_if}"'} if condition.only_if is not None else {}
    return {**headers, **({"If-None-Match": "*"} if condition.only_if_absent else {})}


def _check_told(ask: Ask, answer: Answer, digest: Digest) -> None:
    told = answer.headers.get("Docker-Content-Digest", digest)
    if told != digest:
        raise VerificationError(f"{ask}: {digest} was sent, and the registry took it for '{told[:100]}'")


def _location(ask: Ask, answer: Answer) -> str:
    location = answer.headers.get("Location", "")
    if not location:
        raise UnavailableError(f"{ask}: expected a Location to upload to, got none")
    return urljoin(ask.url, location)


def _least_piece(answer: Answer) -> int:
    least = answer.headers.get("OCI-Chunk-Min-Length", "")
    return int(least) if least.isascii() and least.isdigit() else 0


def _slice(file: IO[bytes], start: int, size: int, deadline: float) -> IO[bytes]:
    return cast("IO[bytes]", FileSlice(file, start, size, deadline))  # has what sending needs of one


@contextlib.contextmanager
def _reading(content: bytes | Path) -> Iterator[IO[bytes]]:
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        yield file
