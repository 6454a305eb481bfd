"""Manifests and indexes: what they refer to, and the index of what refers to one. Pure.

Sources: OCI image specification 1.1 (manifest, index, descriptor); OCI distribution specification 1.1, "Listing
Referrers" and "Referrers Tag Schema".
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from pratique.release.ambiguity import ambiguity_in
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import DigestError
from pratique.release.registry.errors import ListShrinksError, ManifestError
from pratique.release.registry.interface import IMAGE_INDEX
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = [
    "INDEX_TYPES",
    "MANIFEST_TYPES",
    "MAX_MANIFEST_BYTES",
    "Descriptor",
    "Parts",
    "add_referrer",
    "filter_referrers",
    "keep_referrers",
    "make_index",
    "merge_indexes",
    "read_manifest",
    "referrer_descriptor",
    "referrer_digests",
    "require_growing",
    "subject_of",
]

MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
"""What registries must accept, and most accept no more."""
INDEX_TYPES: Final = frozenset({IMAGE_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"})
MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    IMAGE_INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a manifest says of something else."""

    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int
    artifact_type: str = msgspec.field(name="artifactType", default="")
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Parts(msgspec.Struct, frozen=True):
    """What a manifest or an index refers to; what else it says is not read."""

    media_type: str = msgspec.field(name="mediaType", default="")
    artifact_type: str = msgspec.field(name="artifactType", default="")
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] = []
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    @property
    def blobs(self) -> list[Descriptor]:
        """Configuration and layers."""
        return [*([self.config] if self.config is not None else []), *self.layers]


class _Index(msgspec.Struct, frozen=True):
    manifests: list[msgspec.Raw]


def read_manifest(content: bytes, media_type: str) -> Parts:
    """Parse a manifest or an index.

    Raises:
        ManifestError: it is too large, no JSON object of that shape, names digests that are none, or calls itself
            another type than it was sent as: two readers could take it for two things.
    """
    try:
        parts = decode_json(content, Parts, max_bytes=MAX_MANIFEST_BYTES)
        for one in [*parts.blobs, *parts.manifests, *([parts.subject] if parts.subject is not None else [])]:
            parse_digest(one.digest)
    except MalformedError as error:
        raise ManifestError(f"expected a manifest of type '{media_type[:100]}': {error}") from error
    except DigestError as error:
        raise ManifestError(f"a manifest refers to a digest that is none: {error.message}") from error
    if parts.media_type not in {"", media_type}:
        raise ManifestError(
            f"a manifest that came as '{media_type[:100]}' calls itself '{parts.media_type[:100]}'",
            hint="The Content-Type and the member mediaType must agree.",
        )
    _require_one_meaning(content, media_type, parts)
    return parts


def _require_one_meaning(content: bytes, media_type: str, parts: Parts) -> None:
    """Refuse what could be taken for an image and an index, or for two images (OCI's GHSA-mc8v-mgrf-8f4m)."""
    is_index = media_type in INDEX_TYPES
    if (is_index and parts.blobs) or (parts.manifests and (not is_index or parts.blobs)):
        raise ManifestError(f"a manifest of type '{media_type[:100]}' has parts of an image and of an index")
    if ambiguity := ambiguity_in(content):
        raise ManifestError(f"a manifest may be read as two: {ambiguity}")


def referrer_descriptor(content: bytes, media_type: str) -> Descriptor:
    """Return how a manifest with a subject is listed among the subject's referrers.

    Raises:
        ManifestError: as for `read_manifest`.
    """
    parts = read_manifest(content, media_type)
    configured = parts.config.media_type if parts.config is not None else ""
    return Descriptor(
        media_type=media_type,
        digest=digest_of(content),
        size=len(content),
        artifact_type=parts.artifact_type or configured,
        annotations=parts.annotations or {},
    )


def make_index(descriptors: list[Descriptor]) -> bytes:
    """Write an image index. The same descriptors give the same bytes."""
    return _index_of([msgspec.Raw(msgspec.json.encode(one)) for one in descriptors])


def add_referrer(index: bytes | None, referrer: Descriptor) -> bytes | None:
    """Return the index with one more; None where it is there. What else stands in it is left as it is.

    Raises:
        ManifestError: the index is none.
    """
    known = _entries(index) if index is not None else []
    if any(_descriptor(one).digest == referrer.digest for one in known):
        return None
    return _index_of([*known, msgspec.Raw(msgspec.json.encode(referrer))])


def keep_referrers(index: bytes, digests: Collection[str]) -> bytes:
    """Return the index with those of some digests only.

    Raises:
        ManifestError: the index is none.
    """
    return _index_of([one for one in _entries(index) if _descriptor(one).digest in digests])


def referrer_digests(index: bytes) -> list[Digest]:
    """Return what an index lists.

    Raises:
        ManifestError: the index is none.
    """
    return [Digest(_descriptor(one).digest) for one in _entries(index)]


def require_growing(before: bytes, after: bytes, media_type: str) -> None:
    """Check that a list of referrers lists all that it did: evidence is added, never taken away.

    Raises:
        ListShrinksError: it would list less, or be no list.
    """
    kept = referrer_digests(after) if media_type == IMAGE_INDEX else []
    missing = sorted(set(referrer_digests(before)) - set(kept))
    if missing or media_type != IMAGE_INDEX:
        raise ListShrinksError(
            f"a list of referrers only grows: {len(missing)} would be left out, {', '.join(missing[:3]) or 'none'}",
            hint="Read it anew and add to it.",
        )


def filter_referrers(index: bytes, artifact_type: str) -> bytes:
    """Return the index with those of one artifact type only.

    Raises:
        ManifestError: the index is none.
    """
    return _index_of([one for one in _entries(index) if _descriptor(one).artifact_type == artifact_type])


def merge_indexes(pages: list[bytes]) -> bytes:
    """Return one index of what several pages list; one page is returned as it is.

    Raises:
        ManifestError: a page is no index.
    """
    return pages[0] if len(pages) == 1 else _index_of([one for page in pages for one in _entries(page)])


def _entries(index: bytes) -> list[msgspec.Raw]:
    read_manifest(index, IMAGE_INDEX)
    return decode_json(index, _Index).manifests


def _descriptor(entry: msgspec.Raw) -> Descriptor:
    return decode_json(entry, Descriptor)


def _index_of(entries: list[msgspec.Raw]) -> bytes:
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries})


def subject_of(parts: Parts) -> Digest | None:
    """Return the digest of what a manifest refers to as its subject."""
    return Digest(parts.subject.digest) if parts.subject is not None else None
