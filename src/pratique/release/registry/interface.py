"""What the other rooms ask of a registry (OCI distribution specification 1.1), in memory or over HTTP.

A repository is `host/path`. Bytes are returned as they came, after their digest was checked; a registry is never
believed about what it sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from pratique.release.values import Digest

__all__ = ["IMAGE_INDEX", "IMAGE_MANIFEST", "Blob", "Manifest", "Registry"]

IMAGE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX: Final = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index as it lies in a registry."""

    content: bytes
    media_type: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Blob:
    """What a blob is called and how long it is."""

    digest: Digest
    size_bytes: int


class Registry(Protocol):
    """Reads and writes of one or more repositories. Safe to use from several threads.

    Every method raises UnavailableError where the registry does not answer or answers nonsense, and RefusedError where
    it says no.
    """

    def manifest(self, repository: str, reference: str) -> Manifest:
        """Return what a tag or a digest names.

        Raises:
            NotFoundError: nothing.
            VerificationError: the registry sent something else than what the digest names.
        """
        ...

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
        """Write a manifest under a tag, or under its digest.

        With `only_if` the tag must name that digest now, with `only_if_absent` it must not exist; both only where
        `has_conditional_writes`.

        Raises:
            ConflictError: the condition does not hold, or the tag is immutable and names something else.
        """
        ...

    def blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        """Return a small blob whole.

        Raises:
            NotFoundError: there is none.
            VerificationError: its bytes are others, or more than allowed.
        """
        ...

    def open_blob(self, repository: str, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """Open a blob of any size for reading; its digest is checked before its last bytes are returned."""
        ...

    def put_blob(self, repository: str, content: bytes | Path) -> Blob:
        """Write a blob, unless it is there."""
        ...

    def tags(self, repository: str) -> Iterator[str]:
        """Name the tags, page by page; none where the repository does not exist."""
        ...

    def referrers(self, repository: str, digest: Digest) -> Manifest | None:
        """Return the index of what refers to a manifest; None where the registry has no referrers API."""
        ...

    def has_conditional_writes(self, repository: str) -> bool:
        """Whether `only_if` and `only_if_absent` hold there: our front says so; plain registries ignore conditions."""
        ...
