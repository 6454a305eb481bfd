"""How bundles lie in a registry: manifests, indexes and tags, as bytes and names. Pure.

A bundle lies in a manifest of its own that names the artifact as its `subject`. Registries with a referrers API list
such manifests. For the others there are two kinds of tags:
- `sha256-<hex>` (OCI's referrers tag schema) names an index of them all. Everybody reads and rewrites it, so writes at
  the same time lose entries. It is what other tools read.
- `sha256-<hex>.<start of the manifest's digest>` names one of them. Only one content can ever be written under such a
  tag, so nothing can be lost there. It is ours: from these tags the index is repaired.

Sources: OCI image and distribution specifications 1.1; cosign's layout of Sigstore bundles.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import DigestError, VerificationError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST, Blob, Manifest
from pratique.release.registry.names import fallback_tag
from pratique.release.signing.bundle import BUNDLE_V03
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = [
    "EMPTY_BLOB",
    "Referrer",
    "is_own_tag",
    "make_index",
    "make_referrer",
    "own_tag",
    "parse_index",
    "parse_referrer",
]

EMPTY_BLOB: Final = b"{}"
_EMPTY: Final = "application/vnd.oci.empty.v1+json"
_BUNDLE_LAYER: Final = re.compile(
    r"application/vnd\.dev\.sigstore\.bundle(\.v0\.(?!0|1\+|2\+)\d+\+json|\+json;version=0\.3)", re.ASCII
)
_PREDICATE_TYPE: Final = "dev.sigstore.bundle.predicateType"
_TAG_HEX: Final = 32
"""128 bits of the digest: two manifests that share them are not found by trying. A tag has at most 128 letters."""


class _Wire(msgspec.Struct, frozen=True, rename="camel"):
    """Members that are not needed here are left out."""


class _Descriptor(_Wire, frozen=True):
    digest: str
    media_type: str = ""
    size: int = 0


class _Manifest(_Wire, frozen=True):
    layers: tuple[_Descriptor, ...] = ()
    subject: _Descriptor | None = None
    artifact_type: str = ""
    annotations: dict[str, str] = {}


class _Index(_Wire, frozen=True):
    schema_version: Literal[2]
    manifests: tuple[msgspec.Raw, ...]


class Referrer(msgspec.Struct, frozen=True):
    """What a manifest says of the bundle in it. Nothing of it is signed."""

    subject: Digest | None
    bundle: Blob
    predicate_type: str


def own_tag(subject: Digest, manifest: Digest) -> str:
    """Return the tag of one manifest that refers to an artifact."""
    return f"{fallback_tag(subject)}.{manifest.removeprefix('sha256:')[:_TAG_HEX]}"


def is_own_tag(tag: str, subject: Digest) -> bool:
    """Whether a tag is one of those that `own_tag` makes for an artifact."""
    start, _, rest = tag.partition(".")
    return start == fallback_tag(subject) and re.fullmatch(rf"[0-9a-f]{{{_TAG_HEX}}}", rest) is not None


def make_referrer(subject: Manifest, bundle: Blob, *, predicate_type: str, at: dt.datetime) -> bytes:
    """Return the manifest that holds a bundle about an artifact. The same arguments give the same bytes."""
    return msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "artifactType": BUNDLE_V03,
            "config": _descriptor(_EMPTY, EMPTY_BLOB),
            "layers": [{"mediaType": BUNDLE_V03, "digest": bundle.digest, "size": bundle.size_bytes}],
            "subject": _descriptor(subject.media_type, subject.content),
            "annotations": {
                "dev.sigstore.bundle.content": "dsse-envelope",
                _PREDICATE_TYPE: predicate_type,
                "org.opencontainers.image.created": at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        }
    )


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def parse_referrer(content: bytes) -> Referrer | None:
    """Read a manifest; None where it holds something else than one bundle: other tools attach other things.

    Raises:
        VerificationError: it is no manifest.
    """
    try:
        wire = decode_json(content, _Manifest)
        if len(wire.layers) != 1 or not _BUNDLE_LAYER.fullmatch(wire.layers[0].media_type):
            return None
        subject = parse_digest(wire.subject.digest) if wire.subject is not None else None
        blob = Blob(parse_digest(wire.layers[0].digest), wire.layers[0].size)
    except (MalformedError, DigestError) as error:
        raise VerificationError(f"expected an image manifest: {error}") from error
    return Referrer(subject, blob, wire.annotations.get(_PREDICATE_TYPE, ""))


def parse_index(manifest: Manifest) -> dict[Digest, bytes]:
    """Return the entries of an index, each as it stands there.

    Raises:
        VerificationError: it is none.
    """
    if manifest.media_type != IMAGE_INDEX:
        raise VerificationError(f"expected an index, got something of type '{manifest.media_type[:100]}'")
    try:
        wire = decode_json(manifest.content, _Index)
        return {parse_digest(decode_json(one, _Descriptor).digest): bytes(one) for one in wire.manifests}
    except (MalformedError, DigestError) as error:
        raise VerificationError(f"expected an index of manifests: {error}") from error


def make_index(entries: Mapping[Digest, bytes]) -> bytes:
    """Return an index of these entries, ordered by digest: the same set gives the same bytes, whoever writes it."""
    manifests = [msgspec.Raw(entries[digest]) for digest in sorted(entries)]
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": manifests})
