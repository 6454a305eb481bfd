"""A registry in memory for these tests: plain, with a referrers API, or with conditional writes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import msgspec

from pratique.release.errors import ConflictError, NotFoundError, VerificationError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST, Blob, Manifest
from pratique.release.values import Digest, Subject, digest_of

REPOSITORY = "registry.example/team/app"


class MemoryRegistry:
    """`step` is called before each read or write of a tag: where other writers may come in between."""

    def __init__(self, *, has_referrers: bool = False, is_conditional: bool = False) -> None:
        self.manifests: dict[Digest, Manifest] = {}
        self.blobs: dict[Digest, bytes] = {}
        self.tagged: dict[str, Digest] = {}
        self.step: Callable[[str], None] = lambda _: None
        self.num_writes = 0
        self._has_referrers = has_referrers
        self._is_conditional = is_conditional
        self._lock = threading.Lock()

    def push_image(self, content: bytes = b'{"schemaVersion":2}', tag: str = "latest") -> Subject:
        return Subject(REPOSITORY, self.put_manifest(REPOSITORY, tag, content, IMAGE_MANIFEST))

    def manifest(self, repository: str, reference: str) -> Manifest:
        if ":" not in reference:
            self.step("read tag")
        with self._lock:
            digest = self.tagged.get(reference, Digest(reference))
            if digest not in self.manifests:
                raise NotFoundError(f"there is no {reference} in {repository}")
            found = self.manifests[digest]
        if digest_of(found.content) != digest:
            raise VerificationError(f"the registry sent something else than {digest}")
        return found

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
        if ":" not in reference:
            self.step("write tag")
        assert self._is_conditional or not (only_if or only_if_absent)
        digest = digest_of(content)
        with self._lock:
            now = self.tagged.get(reference)
            if (only_if and now != only_if) or (only_if_absent and now):
                raise ConflictError(f"{reference} names {now}")
            self.num_writes += 1
            self.manifests[digest] = Manifest(content, media_type, digest)
            if ":" not in reference:
                self.tagged[reference] = digest
        return digest

    def blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        content = self.blobs.get(digest)
        if content is None:
            raise NotFoundError(f"there is no {digest}")
        if len(content) > max_bytes or digest_of(content) != digest:
            raise VerificationError(f"{digest} has other bytes, or more than {max_bytes}")
        return content

    def open_blob(self, repository: str, digest: Digest) -> AbstractContextManager[BinaryIO]:
        return io.BytesIO(self.blobs[digest])

    def put_blob(self, repository: str, content: bytes | Path) -> Blob:
        assert isinstance(content, bytes)
        digest = digest_of(content)
        self.blobs[digest] = content
        return Blob(digest, len(content))

    def tags(self, repository: str) -> Iterator[str]:
        self.step("list tags")
        with self._lock:
            return iter(sorted(self.tagged))

    def referrers(self, repository: str, digest: Digest) -> Manifest | None:
        if not self._has_referrers:
            return None
        with self._lock:
            found = [one for one in self.manifests.values() if refers_to(one, digest)]
        manifests = [{"mediaType": one.media_type, "digest": one.digest, "size": len(one.content)} for one in found]
        content = msgspec.json.encode({"schemaVersion": 2, "manifests": manifests})
        return Manifest(content, IMAGE_INDEX, digest_of(content))

    def has_conditional_writes(self, repository: str) -> bool:
        return self._is_conditional


def refers_to(manifest: Manifest, digest: Digest) -> bool:
    wire = msgspec.json.decode(manifest.content)
    subject = wire.get("subject") if isinstance(wire, dict) else None
    return subject is not None and subject["digest"] == digest
