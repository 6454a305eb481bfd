"""The one image of an OCI layout (`registry.layout`): written once, read with every digest checked.

The same configuration, layers and annotations give the same manifest, byte for byte: JSON has sorted keys, gzip no
time and no name. Source: OCI image specification 1.1, "Image Layout" and "Image Manifest".
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from pratique.core.errors import CallerError, RefusedError
from pratique.release.ambiguity import ambiguity_in
from pratique.release.build.layertar import ByteSource, LayerLimits, open_plain
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import DigestError, EvidenceError
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.layout import ImageLayout, LayoutError, blob_path
from pratique.release.registry.manifests import MAX_MANIFEST_BYTES, read_manifest
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = [
    "IMAGE_CONFIG",
    "Layer",
    "LayoutImage",
    "add_layer",
    "blob_path",
    "canonical_json",
    "copy_layer",
    "digest_of_file",
    "read_layout",
    "write_image",
]

IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_LEVEL: Final = 6
_CHUNK: Final = 1024 * 1024


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct, frozen=True):
    rootfs: _RootFs


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it lies in a layout."""

    digest: Digest
    size_bytes: int
    media_type: str
    diff_id: Digest
    """Of its bytes uncompressed."""


@dataclass(frozen=True, slots=True)
class LayoutImage:
    """The one image of a layout."""

    folder: Path
    digest: Digest
    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[Layer, ...]

    def open_layer(self, layer: Layer) -> BinaryIO:
        """Open a layer's bytes as they lie there."""
        return blob_path(self.folder, layer.digest).open("rb")


def canonical_json(value: object) -> bytes:
    """Write JSON whose bytes follow from the value alone."""
    return msgspec.json.encode(value, order="sorted")


def digest_of_file(path: Path) -> Digest:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())


def add_layer(folder: Path, stream: ByteSource) -> Layer:
    """Write a layer, compressed whatever it was, and say how it is called.

    Raises:
        EvidenceError: it is compressed in a way that is not read here, or broken.
    """
    folder.joinpath("blobs", "sha256").mkdir(parents=True, exist_ok=True)
    partial = folder / "layer.partial"
    plain_hash = hashlib.sha256()
    with (
        partial.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", compresslevel=_LEVEL, mtime=0) as out,
    ):
        for chunk in _chunks(open_plain(stream, LayerLimits())):
            plain_hash.update(chunk)
            out.write(chunk)
    digest = digest_of_file(partial)
    size = partial.stat().st_size
    partial.replace(blob_path(folder, digest))
    return Layer(digest, size, LAYER_GZIP, Digest("sha256:" + plain_hash.hexdigest()))


def copy_layer(folder: Path, image: LayoutImage, layer: Layer) -> Layer:
    """Take a layer over from another layout, as it lies there: whoever has that image need not fetch it again."""
    folder.joinpath("blobs", "sha256").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(blob_path(image.folder, layer.digest), blob_path(folder, layer.digest))
    return layer


def _chunks(stream: ByteSource) -> Iterator[bytes]:
    try:
        while chunk := stream.read(_CHUNK):
            yield chunk
    except (OSError, EOFError) as error:
        raise EvidenceError(f"a layer cannot be uncompressed: {error}") from error


def write_image(
    folder: Path, config: bytes, layers: Sequence[Layer], *, annotations: Mapping[str, str] | None = None
) -> LayoutImage:
    """Write configuration, manifest and index over layers that are there; the folder lists this image alone."""
    layout = ImageLayout(folder)
    folder.joinpath("index.json").unlink(missing_ok=True)
    blob = layout.put_blob(config)
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": {"mediaType": IMAGE_CONFIG, "digest": blob.digest, "size": blob.size_bytes},
            "layers": [
                {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size_bytes} for layer in layers
            ],
            **({"annotations": dict(annotations)} if annotations else {}),
        }
    )
    digest = layout.put_manifest(digest_of(manifest), manifest, IMAGE_MANIFEST)
    return LayoutImage(folder, digest, manifest, IMAGE_MANIFEST, config, tuple(layers))


def _diff_ids(config: bytes, image: Digest) -> list[Digest]:
    try:
        return [parse_digest(one) for one in decode_json(config, _Config).rootfs.diff_ids]
    except (MalformedError, DigestError) as error:
        raise EvidenceError(f"the configuration of {image} is of no image: {error}") from error


def read_layout(folder: Path) -> LayoutImage:
    """Read the one image of a layout, and check every digest and size in it.

    Raises:
        EvidenceError: there is none, there are several, or something is not what its digest says.
    """
    try:
        layout = ImageLayout.existing(folder)
        found = layout.only()
        parts = read_manifest(found.content, found.media_type)
        if parts.config is None:
            raise EvidenceError(f"the manifest {found.digest} is of no image")
        for one in parts.blobs:
            layout.require_blob(Digest(one.digest), one.size)
        config = layout.blob(Digest(parts.config.digest), max_bytes=MAX_MANIFEST_BYTES)
        if ambiguity := ambiguity_in(config):  # an engine could read another image than it is here
            raise EvidenceError(f"the configuration of {found.digest} may be read as two: {ambiguity}")
        diff_ids = _diff_ids(config, found.digest)
    except (LayoutError, CallerError, RefusedError) as error:
        raise EvidenceError(f"{folder} holds no image that can be used: {error.message}") from error
    if len(diff_ids) != len(parts.layers):
        raise EvidenceError(f"{found.digest}: {len(parts.layers)} layers, and diff_ids of {len(diff_ids)}")
    layers = tuple(
        Layer(Digest(one.digest), one.size, one.media_type, diff_id)
        for one, diff_id in zip(parts.layers, diff_ids, strict=True)
    )
    return LayoutImage(folder, found.digest, found.content, found.media_type, config, layers)
