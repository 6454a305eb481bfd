"""A registry in memory, for tests: what registries differ in can be switched off, one by one.

It refuses what a real one refuses: manifests whose blobs or children are missing, and digests that do not fit.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pratique.release.errors import NotFoundError, VerificationError
from pratique.release.registry.errors import ManifestError, RegistryRefusedError
from pratique.release.registry.interface import IMAGE_INDEX, Blob, Manifest
from pratique.release.registry.manifests import make_index, read_manifest, referrer_descriptor, subject_of
from pratique.release.registry.names import parse_reference, parse_repository
from pratique.release.registry.rules import MUTABLE_TAGS, Condition, is_mutable, require_writable
from pratique.release.values import Digest, digest_of

__all__ = ["MemoryRegistry"]


@dataclass
class _Repository:
    manifests: dict[Digest, Manifest] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)


class MemoryRegistry:
    """Any number of repositories, on any host."""

    def __init__(
        self,
        *,
        has_referrers_api: bool = True,
        has_conditional_writes: bool = True,
        has_immutable_tags: bool = True,
    ) -> None:
        self._has_referrers_api = has_referrers_api
        self._has_conditional_writes = has_conditional_writes
        self._has_immutable_tags = has_immutable_tags
        self._repositories: dict[str, _Repository] = {}
        self._lock = threading.RLock()

    def manifest(self, repository: str, reference: str) -> Manifest:
        parse_reference(reference)
        with self._lock:
            found = self._find(repository)
            manifest = found.manifests.get(found.tags.get(reference, Digest(reference)))
        if manifest is None:
            raise NotFoundError(f"there is no '{reference}' in {repository}")
        return manifest

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
        condition = Condition(only_if, only_if_absent)
        if condition and not self._has_conditional_writes:
            raise RegistryRefusedError(f"the registry of {repository} ignores conditions, and one was given")
        digest = digest_of(content)
        with self._lock:
            found = self._made(repository)
            self._require_whole(found, content, media_type)
            if ":" in reference:
                if reference != digest:
                    raise VerificationError(f"expected a manifest of digest {reference}, got one of {digest}")
            else:
                may_move = not self._has_immutable_tags or is_mutable(reference, MUTABLE_TAGS)
                current = found.tags.get(reference)
                require_writable(reference, current, digest, condition=condition, may_move=may_move)
                found.tags[reference] = digest
            found.manifests[digest] = Manifest(content, media_type, digest)
        return digest

    def blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        with self._lock:
            content = self._find(repository).blobs.get(digest)
        if content is None:
            raise NotFoundError(f"there is no blob {digest} in {repository}")
        if len(content) > max_bytes:
            raise VerificationError(f"expected at most {max_bytes} bytes of {digest}, got {len(content)}")
        return content

    def open_blob(self, repository: str, digest: Digest) -> AbstractContextManager[BinaryIO]:
        with self._lock:
            content = self._find(repository).blobs.get(digest)
        if content is None:
            raise NotFoundError(f"there is no blob {digest} in {repository}")
        return contextlib.closing(io.BytesIO(content))

    def put_blob(self, repository: str, content: bytes | Path) -> Blob:
        data = content.read_bytes() if isinstance(content, Path) else content
        digest = digest_of(data)
        with self._lock:
            self._made(repository).blobs[digest] = data
        return Blob(digest, len(data))

    def tags(self, repository: str) -> Iterator[str]:
        with self._lock:
            return iter(sorted(self._find(repository).tags))

    def referrers(self, repository: str, digest: Digest) -> Manifest | None:
        if not self._has_referrers_api:
            return None
        with self._lock:
            of_it = [
                referrer_descriptor(one.content, one.media_type)
                for one in self._find(repository).manifests.values()
                if subject_of(read_manifest(one.content, one.media_type)) == digest
            ]
        content = make_index(of_it)
        return Manifest(content, IMAGE_INDEX, digest_of(content))

    def has_conditional_writes(self, repository: str) -> bool:
        parse_repository(repository)
        return self._has_conditional_writes

    def _find(self, repository: str) -> _Repository:
        parse_repository(repository)
        return self._repositories.get(repository, _Repository())

    def _made(self, repository: str) -> _Repository:
        parse_repository(repository)
        return self._repositories.setdefault(repository, _Repository())

    @staticmethod
    def _require_whole(found: _Repository, content: bytes, media_type: str) -> None:
        parts = read_manifest(content, media_type)
        missing = [one.digest for one in parts.blobs if one.digest not in found.blobs]
        missing += [one.digest for one in parts.manifests if one.digest not in found.manifests]
        if missing:
            raise ManifestError(f"a manifest refers to what is not there: {', '.join(missing)[:300]}")
