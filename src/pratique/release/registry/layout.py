"""OCI image layouts: a folder that holds what a repository holds. Images travel in them where no registry is.

Every blob and manifest lies under its digest and is checked against it when read; what is written is complete before it
has its name. Source: OCI image specification 1.1, "Image Layout".
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol

import msgspec

from pratique.core.errors import EnvironmentFaultError
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import NotFoundError, VerificationError
from pratique.release.files import replacing
from pratique.release.registry._reading import CheckedReader, blob_of, check_digest
from pratique.release.registry.errors import ManifestError
from pratique.release.registry.interface import IMAGE_INDEX, Blob, Manifest, Registry
from pratique.release.registry.manifests import INDEX_TYPES, MAX_MANIFEST_BYTES, Parts, read_manifest
from pratique.release.registry.names import parse_reference
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = ["ImageLayout", "LayoutError", "blob_path", "copy_image", "pull_image", "push_image", "read_own_type"]

_TAG: Final = "org.opencontainers.image.ref.name"
_MARK: Final = b'{"imageLayoutVersion":"1.0.0"}'
_PIECE_BYTES: Final = 1024 * 1024
_MAX_DEPTH: Final = 4
_MAX_MANIFESTS: Final = 1_000


class LayoutError(EnvironmentFaultError):
    """The folder cannot be read or written, or is no image layout."""

    code = "image_layout"


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int
    annotations: dict[str, str] = {}


class _Index(msgspec.Struct, frozen=True):
    manifests: list[_Entry] = []


class _Mark(msgspec.Struct, frozen=True):
    version: str = msgspec.field(name="imageLayoutVersion")


class _Place(Protocol):
    """Where images come from or go to: a repository, or a layout."""

    def manifest(self, reference: str) -> Manifest: ...

    def open_blob(self, digest: Digest) -> contextlib.AbstractContextManager[BinaryIO]: ...

    def put_blob(self, content: bytes | Path) -> Blob: ...

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> Digest: ...


class ImageLayout:
    """A layout in a folder, made where there is none."""

    def __init__(self, folder: Path) -> None:
        """Open or make it.

        Raises:
            LayoutError: the folder holds something else, or cannot be used.
        """
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"
        with _translated(folder):
            self._blobs.mkdir(parents=True, exist_ok=True)
            mark = folder / "oci-layout"
            if not mark.exists():
                if any(one.name != "blobs" for one in folder.iterdir()):
                    raise LayoutError(f"{folder} is not empty, and no image layout")
                _write(mark, _MARK)
            self._require_version(_read(mark, 1024))

    @classmethod
    def existing(cls, folder: Path) -> ImageLayout:
        """Open one that is there, to read it.

        Raises:
            LayoutError: it is not.
        """
        if not (folder / "oci-layout").is_file():
            raise LayoutError(f"{folder} is no image layout: it has no file oci-layout")
        return cls(folder)

    def only(self) -> Manifest:
        """Return the one image, or index, of a layout that holds no other.

        Raises:
            VerificationError: it holds none or several, or one of another size than it lists.
        """
        listed = self._entries()
        if len(listed) != 1:
            raise VerificationError(f"{self._folder} must hold one image, got {len(listed)}")
        found = self.manifest(listed[0].digest)
        if len(found.content) != listed[0].size:
            raise VerificationError(f"{found.digest} is not what its digest and size say: {len(found.content)} bytes")
        return found

    def require_blob(self, digest: Digest, size_bytes: int) -> None:
        """Check that a blob is there, whole and unchanged.

        Raises:
            NotFoundError: it is not there.
            VerificationError: it is not what its digest and size say.
        """
        path = self._path(digest)
        with _translated(self._folder):
            is_right = path.stat().st_size == size_bytes and blob_of(path).digest == digest
        if not is_right:
            raise VerificationError(f"{path} is not what its digest and size say")

    def blob(self, digest: Digest, *, max_bytes: int) -> bytes:
        """Return a small blob whole.

        Raises:
            NotFoundError: there is none.
            VerificationError: its bytes are others, or more than allowed.
        """
        path = self._path(digest)
        with _translated(self._folder):
            content = _read(path, max_bytes)
        check_digest(content, digest, str(path))
        return content

    def manifest(self, reference: str) -> Manifest:
        """Return what a tag or a digest names.

        Raises:
            NotFoundError: nothing.
            VerificationError: the file is not what its name says.
        """
        parse_reference(reference)
        found = [one for one in self._entries() if reference in {one.digest, one.annotations.get(_TAG)}]
        if not found and ":" not in reference:
            raise NotFoundError(f"there is no '{reference}' in {self._folder}")
        digest = parse_digest(found[0].digest if found else reference)
        content = self.blob(digest, max_bytes=MAX_MANIFEST_BYTES)
        media_type = found[0].media_type if found else read_own_type(content)
        read_manifest(content, media_type)
        return Manifest(content, media_type, digest)

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> Digest:
        """Write a manifest under a tag, or under its digest. A tag that was there names it from now on."""
        parse_reference(reference)
        read_manifest(content, media_type)
        digest = digest_of(content)
        if ":" in reference:
            check_digest(content, Digest(reference), "the manifest")
        self.put_blob(content)
        with self._locked():
            known = self._entries()
            is_listed = any(one.digest == digest for one in known)
            if ":" not in reference:
                kept = [one for one in known if one.annotations.get(_TAG) != reference]
                self._save([*kept, _Entry(media_type, digest, len(content), {_TAG: reference})])
            elif not is_listed:
                self._save([*known, _Entry(media_type, digest, len(content))])
        return digest

    def tags(self) -> list[str]:
        """Name the tags."""
        return sorted(tag for one in self._entries() if (tag := one.annotations.get(_TAG)) is not None)

    @contextlib.contextmanager
    def open_blob(self, digest: Digest) -> Iterator[BinaryIO]:
        """Open a blob for reading; its digest is checked before its last bytes are returned.

        Raises:
            NotFoundError: there is none.
        """
        with contextlib.ExitStack() as stack:
            with _translated(self._folder):
                path = self._path(digest)
                file = stack.enter_context(path.open("rb"))
            yield io.BufferedReader(CheckedReader(_pieces(file, path), digest, str(path)))

    def put_blob(self, content: bytes | Path) -> Blob:
        """Write a blob, unless it is there."""
        with _translated(self._folder):
            blob = blob_of(content)
            target = self._path(blob.digest)
            if not target.exists():
                _write(target, content)
        return blob

    def _path(self, digest: Digest) -> Path:
        return blob_path(self._folder, digest)

    def _entries(self) -> list[_Entry]:
        with _translated(self._folder):
            index = self._folder / "index.json"
            if not index.exists():
                return []
            try:
                return decode_json(_read(index, MAX_MANIFEST_BYTES), _Index).manifests
            except MalformedError as error:
                raise ManifestError(f"expected an image index in {index}: {error}") from error

    def _save(self, entries: list[_Entry]) -> None:
        index = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries}
        with _translated(self._folder):
            _write(self._folder / "index.json", msgspec.json.encode(index))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time looks and writes."""
        with _translated(self._folder):
            handle = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _require_version(self, mark: bytes) -> None:
        try:
            version = decode_json(mark, _Mark).version
        except MalformedError as error:
            raise LayoutError(f"{self._folder} is no image layout: its file oci-layout is malformed") from error
        if version != "1.0.0":
            raise LayoutError(f"{self._folder} is an image layout of version '{version[:50]}', 1.0.0 is known")


def blob_path(folder: Path, digest: Digest) -> Path:
    """Return where a layout has a blob.

    Raises:
        DigestError: the digest is none, and would name another file.
    """
    return folder / "blobs" / "sha256" / parse_digest(digest).removeprefix("sha256:")


def push_image(layout: ImageLayout, reference: str, registry: Registry, repository: str, tag: str = "") -> Digest:
    """Copy an image, or an index with all it lists, from a layout into a repository.

    Args:
        layout: where it lies.
        reference: its tag or digest there.
        registry: where it goes.
        repository: the repository there.
        tag: its tag there; empty: under its digest only.

    Raises:
        ConflictError: the tag is immutable and names something else.
    """
    return copy_image(layout, reference, _Repository(registry, repository), tag)


def pull_image(registry: Registry, repository: str, reference: str, layout: ImageLayout, tag: str = "") -> Digest:
    """Copy an image, or an index with all it lists, from a repository into a layout. Arguments as for `push_image`."""
    return copy_image(_Repository(registry, repository), reference, layout, tag)


def copy_image(source: _Place, reference: str, target: _Place, tag: str = "") -> Digest:
    """Copy an image and what it consists of; the manifest is written last, when all it names is there.

    Raises:
        VerificationError: an index lists more manifests, or deeper ones, than anybody builds.
    """
    top = source.manifest(reference)
    left = _MAX_MANIFESTS

    def copy(manifest: Manifest, name: str, depth: int) -> None:
        nonlocal left
        left -= 1
        if depth > _MAX_DEPTH or left < 0:
            raise VerificationError(f"{top.digest} lists more than {_MAX_MANIFESTS} manifests, or {_MAX_DEPTH} deep")
        parts = read_manifest(manifest.content, manifest.media_type)
        if manifest.media_type in INDEX_TYPES:
            for child in parts.manifests:
                copy(source.manifest(child.digest), child.digest, depth + 1)
        _copy_blobs(source, parts, target)
        target.put_manifest(name, manifest.content, manifest.media_type)

    copy(top, tag or top.digest, 0)
    return top.digest


def _copy_blobs(source: _Place, parts: Parts, target: _Place) -> None:
    for digest, size in {Digest(one.digest): one.size for one in parts.blobs}.items():
        with tempfile.NamedTemporaryFile(prefix="pratique-blob-") as file:
            with source.open_blob(digest) as stream:
                left = size
                while piece := stream.read(_PIECE_BYTES):
                    left -= len(piece)
                    if left < 0:  # whoever sends without end fills the disk before the digest can be wrong
                        raise VerificationError(f"expected {size} bytes of {digest}, as its manifest says, got more")
                    file.write(piece)
            file.flush()
            target.put_blob(Path(file.name))


class _Repository:
    """One repository of a registry."""

    def __init__(self, registry: Registry, repository: str) -> None:
        self._registry = registry
        self._repository = repository

    def manifest(self, reference: str) -> Manifest:
        return self._registry.manifest(self._repository, reference)

    def open_blob(self, digest: Digest) -> contextlib.AbstractContextManager[BinaryIO]:
        return self._registry.open_blob(self._repository, digest)

    def put_blob(self, content: bytes | Path) -> Blob:
        return self._registry.put_blob(self._repository, content)

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> Digest:
        return self._registry.put_manifest(self._repository, reference, content, media_type)


def read_own_type(content: bytes) -> str:
    """Return the media type that a manifest gives itself; one that lies under its digest alone needs it.

    Raises:
        ManifestError: it gives none.
    """
    try:
        media_type = decode_json(content, Parts).media_type
    except MalformedError as error:
        raise ManifestError(f"expected a manifest: {error}") from error
    if not media_type:
        raise ManifestError("expected a manifest with a member mediaType, got one without")
    return media_type


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise VerificationError(f"expected at most {max_bytes} bytes in {path}")
    return content


def _pieces(file: IO[bytes], path: Path) -> Iterator[bytes]:
    with _translated(path):
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _write(target: Path, content: bytes | Path) -> None:
    with replacing(target) as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as given:
                shutil.copyfileobj(given, file, _PIECE_BYTES)


@contextlib.contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no {error.filename} in the image layout {folder}") from error
    except OSError as error:
        raise LayoutError(f"the image layout {folder} cannot be used: {error}") from error
