"""A model or a LoRA adapter as a release artifact: an OCI manifest with one layer for each file. Pure.

The manifest is the list of hashes. Every file of the folder is a layer of its own, whole and as it is, so that the
layer's digest is the file's SHA-256. The artifact's digest is the manifest's: who signs it signs every file. The same
folder gives the same bytes, and what is read must be exactly what would be written: nothing in it goes unread.

Sources: CNCF ModelPack, model format specification v1 (media types, `org.cncf.model.filepath`, configuration); OCI
image specification 1.1, "Guidelines for Artifact Usage"; `org.opencontainers.image.title` is what ORAS names files by.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

import msgspec

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import DigestError, EvidenceError
from pratique.release.registry.interface import IMAGE_MANIFEST
from pratique.release.registry.manifests import MAX_MANIFEST_BYTES
from pratique.release.values import Digest, digest_of, parse_digest

__all__ = [
    "ARTIFACT_TYPE",
    "KINDS",
    "ArtifactFormError",
    "Kind",
    "ModelArtifact",
    "ModelFile",
    "Written",
    "read_artifact",
    "write_artifact",
]

ARTIFACT_TYPE: Final = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG: Final = "application/vnd.cncf.model.config.v1+json"
_WEIGHTS: Final = "application/vnd.cncf.model.weight.v1.raw"
_SETTINGS: Final = "application/vnd.cncf.model.weight.config.v1.raw"
_DOCS: Final = "application/vnd.cncf.model.doc.v1.raw"
_FILE_PATH: Final = "org.cncf.model.filepath"
_TITLE: Final = "org.opencontainers.image.title"
_KIND: Final = "pratique.model.kind"
_BASE: Final = "pratique.model.base"
_NAME: Final = "pratique.model.name"
_LICENCE: Final = "pratique.model.licence"

Kind = Literal["model", "adapter"]
KINDS: Final[tuple[Kind, ...]] = ("model", "adapter")

MAX_FILES: Final = 10_000
MAX_FILE_BYTES: Final = 1 << 50
_MAX_NAME_BYTES: Final = 255
_MAX_TEXT: Final = 4096
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_PLAIN: Final = re.compile(r"[/\\:\x00-\x1f\x7f-\x9f]")
_DOC_NAMES: Final = re.compile(r"(?i)(readme|licen[cs]e|notice|copying|use_policy).*|.*\.md")
_SPDX: Final = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+)*", re.ASCII)


class ArtifactFormError(EvidenceError):
    """What should be a model's artifact is none, or names what no model has."""

    code = "malformed_model_artifact"


@dataclass(frozen=True, slots=True, order=True)
class ModelFile:
    """One file of the folder."""

    name: str
    """Plain: no folder, no way out."""
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """Everything that the manifest says."""

    kind: Kind
    name: str
    files: tuple[ModelFile, ...]
    """By name."""
    licence: str = ""
    """As the import recorded it; empty: not known."""
    base: Digest | None = None
    """Of an adapter: the artifact of the model that it was made for."""

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Written:
    """An artifact as it lies in a registry, without its files."""

    manifest: bytes
    config: bytes

    @property
    def digest(self) -> Digest:
        """The artifact's: what is signed, gated, promoted and audited."""
        return digest_of(self.manifest)


def write_artifact(artifact: ModelArtifact) -> Written:
    """Write the manifest and the configuration that it names. The same artifact gives the same bytes.

    Raises:
        ArtifactFormError: it names what no model has: see the message.
    """
    _require_sound(artifact)
    files = sorted(artifact.files)
    config = msgspec.json.encode(_config_of(artifact, files))
    manifest = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": _CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [_layer(file) for file in files],
        "annotations": _annotations(artifact),
    }
    content = msgspec.json.encode(manifest)
    if len(content) > MAX_MANIFEST_BYTES:
        raise ArtifactFormError(f"the manifest has {len(content)} bytes, registries take {MAX_MANIFEST_BYTES}")
    return Written(content, config)


class _Descriptor(msgspec.Struct, frozen=True):
    digest: str
    size: int
    annotations: dict[str, str] = {}


class _Manifest(msgspec.Struct, frozen=True):
    artifact_type: str = msgspec.field(name="artifactType", default="")
    layers: tuple[_Descriptor, ...] = ()
    annotations: dict[str, str] = {}


def read_artifact(content: bytes) -> ModelArtifact:
    """Read a manifest.

    Raises:
        ArtifactFormError: it is too large, no model's manifest, names files that no model has, or is not byte for byte
            what `write_artifact` makes of what it says.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ArtifactFormError(f"the manifest has {len(content)} bytes, at most {MAX_MANIFEST_BYTES} are read")
    try:
        wire = decode_json(content, _Manifest)
        if wire.artifact_type != ARTIFACT_TYPE:
            raise ArtifactFormError(
                f"expected the manifest of a model (artifactType {ARTIFACT_TYPE}), got '{wire.artifact_type[:100]}'"
            )
        artifact = _artifact_of(wire)
    except MalformedError as error:
        raise ArtifactFormError(f"expected the manifest of a model: {error}") from error
    except DigestError as error:
        raise ArtifactFormError(f"the manifest of a model has a digest that is none: {error.message}") from error
    if write_artifact(artifact).manifest != content:
        raise ArtifactFormError(
            "the manifest is not what is written here of the same files: it has members or an order of its own",
            hint="Push the model with `pratique model push`.",
        )
    return artifact


def _artifact_of(wire: _Manifest) -> ModelArtifact:
    kind, base = wire.annotations.get(_KIND, ""), wire.annotations.get(_BASE)
    return ModelArtifact(
        kind=cast("Kind", kind),  # looked at when it is written again
        name=wire.annotations.get(_NAME, ""),
        files=tuple(
            ModelFile(one.annotations.get(_FILE_PATH, ""), parse_digest(one.digest), one.size) for one in wire.layers
        ),
        licence=wire.annotations.get(_LICENCE, ""),
        base=None if base is None else parse_digest(base),
    )


def _annotations(artifact: ModelArtifact) -> dict[str, str]:
    said = {_BASE: artifact.base or "", _KIND: artifact.kind, _LICENCE: artifact.licence, _NAME: artifact.name}
    return {key: value for key, value in said.items() if value}


def _layer(file: ModelFile) -> dict[str, object]:
    return {
        "mediaType": _media_type(file.name),
        "digest": file.digest,
        "size": file.size_bytes,
        "annotations": {_FILE_PATH: file.name, _TITLE: file.name},
    }


def _media_type(name: str) -> str:
    if name.endswith(".safetensors"):
        return _WEIGHTS
    return _DOCS if _DOC_NAMES.fullmatch(name) else _SETTINGS


def _config_of(artifact: ModelArtifact, files: list[ModelFile]) -> dict[str, object]:
    # What is not an SPDX expression ("see LICENSE") stays in the annotation, where any words may stand.
    licences = [artifact.licence] if _SPDX.fullmatch(artifact.licence) else []
    return {
        "descriptor": {"name": artifact.name, **({"licenses": licences} if licences else {})},
        "config": {"format": "safetensors"},
        "modelfs": {"type": "layers", "diffIds": [file.digest for file in files]},
    }


def _require_sound(artifact: ModelArtifact) -> None:
    for problem in _problems(artifact):
        raise ArtifactFormError(problem, hint="`pratique model import` makes a folder that can be pushed.")


def _problems(artifact: ModelArtifact) -> Iterator[str]:
    if artifact.kind not in KINDS:
        yield f"expected one of the kinds {', '.join(KINDS)}, got '{artifact.kind[:100]}'"
    if artifact.kind == "adapter" and artifact.base is None:
        yield "an adapter must name the digest of the model that it was made for"
    if artifact.kind == "model" and artifact.base is not None:
        yield "a model names no base"
    for text in (artifact.name, artifact.licence):
        if len(text) > _MAX_TEXT or _CONTROL.search(text):
            yield f"a name or licence is too long, or not printable: {text[:100]!a}"
    if not artifact.name:
        yield "the artifact has no name"
    if not 1 <= len(artifact.files) <= MAX_FILES:
        yield f"an artifact has 1 to {MAX_FILES} files, got {len(artifact.files)}"
    yield from _file_problems(artifact.files)


def _file_problems(files: tuple[ModelFile, ...]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for file in files:
        shown = ascii(file.name[:100])
        if not _is_plain(file.name):
            yield f"the name of a file must be plain, without folders or ways out of the folder, got {shown}"
        if not 0 <= file.size_bytes <= MAX_FILE_BYTES:
            yield f"{shown} is said to have {file.size_bytes} bytes"
        # On a file system that folds case or normalises, one of the two would take the other's place.
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", file.name).casefold())
        if folded in seen:
            yield f"two files have names that some systems take for one: {seen[folded][:100]!a} and {shown}"
        seen[folded] = file.name


def _is_plain(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return 0 < size <= _MAX_NAME_BYTES and not name.startswith(".") and not _NOT_PLAIN.search(name)
