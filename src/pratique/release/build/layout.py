"""OCI image layouts on disk, with one image each: written once, read with every digest checked.

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

from pratique.release.build.layertar import ByteSource, LayerLimits, open_plain
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError
from pratique.release.registry.interface import IMAGE_MANIFEST
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
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024
_LEVEL: Final = 6
_CHUNK: Final = 1024 * 1024


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    config: _Descriptor
    layers: tuple[_Descriptor, ...]
    media_type: str = ""
    annotations: dict[str, str] = {}


class _Index(msgspec.Struct, frozen=True):
    manifests: tuple[_Descriptor, ...]


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


def blob_path(folder: Path, digest: Digest) -> Path:
    """Return where a layout has a blob."""
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


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
    """Write configuration, manifest and index over layers that are there."""
    config_digest = _put(folder, config)
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": {"mediaType": IMAGE_CONFIG, "digest": config_digest, "size": len(config)},
            "layers": [
                {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size_bytes} for layer in layers
            ],
            **({"annotations": dict(annotations)} if annotations else {}),
        }
    )
    digest = _put(folder, manifest)
    entry = {"mediaType": IMAGE_MANIFEST, "digest": digest, "size": len(manifest)}
    folder.joinpath("index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": [entry]}))
    folder.joinpath("oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    return LayoutImage(folder, digest, manifest, IMAGE_MANIFEST, config, tuple(layers))


def _put(folder: Path, content: bytes) -> Digest:
    digest = digest_of(content)
    path = blob_path(folder, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def read_layout(folder: Path) -> LayoutImage:
    """Read the one image of a layout, and check every digest and size in it.

    Raises:
        EvidenceError: there is none, there are several, or something is not what its digest says.
    """
    try:
        index = decode_json(_bounded(folder / "index.json"), _Index)
    except (OSError, MalformedError) as error:
        raise EvidenceError(f"{folder} is no OCI layout: {error}") from error
    if len(index.manifests) != 1:
        raise EvidenceError(f"{folder} must hold one image, got {len(index.manifests)}")
    descriptor = index.manifests[0]
    content = _checked(folder, descriptor)
    try:
        manifest = decode_json(content, _Manifest)
        config = _checked(folder, manifest.config)
        diff_ids = decode_json(config, _Config).rootfs.diff_ids
    except MalformedError as error:
        raise EvidenceError(f"the manifest {descriptor.digest} in {folder} is of no image: {error}") from error
    if len(diff_ids) != len(manifest.layers):
        raise EvidenceError(f"{descriptor.digest}: {len(manifest.layers)} layers, and diff_ids of {len(diff_ids)}")
    layers = []
    for one, diff_id in zip(manifest.layers, diff_ids, strict=True):
        digest = _require_file(folder, one)
        layers.append(Layer(digest, one.size, one.media_type, parse_digest(diff_id)))
    media_type = manifest.media_type or descriptor.media_type
    return LayoutImage(folder, parse_digest(descriptor.digest), content, media_type, config, tuple(layers))


def _bounded(path: Path) -> bytes:
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise EvidenceError(f"{path} has more than {MAX_MANIFEST_BYTES} bytes")
    return path.read_bytes()


def _checked(folder: Path, descriptor: _Descriptor) -> bytes:
    _require_file(folder, descriptor)
    return _bounded(blob_path(folder, parse_digest(descriptor.digest)))


def _require_file(folder: Path, descriptor: _Descriptor) -> Digest:
    digest = parse_digest(descriptor.digest)
    path = blob_path(folder, digest)
    try:
        is_right = path.stat().st_size == descriptor.size and digest_of_file(path) == digest
    except OSError as error:
        raise EvidenceError(f"{folder} lacks {digest}: {error.strerror}") from error
    if not is_right:
        raise EvidenceError(f"{path} is not what its digest and size say")
    return digest
