"""What can be said of a model's folder in an instant: names, sizes, headers, shards. Nothing is hashed here.

It runs before an engine is started on the folder, so that no reader of the engine's ever sees a file of a wrong kind or
a header that lies. What a flipped bit in a tensor is, only the checksums show (`verify_content`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Final

import msgspec

from pratique.inference.artifacts._files import Folder, opened
from pratique.inference.artifacts._record import AGAIN, MANIFEST, FileEntry, Manifest, read_manifest
from pratique.inference.artifacts.tensors import (
    LENGTH_BYTES,
    HeaderError,
    check_index,
    header_length,
    looks_pickled,
    parse_header,
)
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

__all__ = ["PICKLED", "check_layout", "check_unrecorded_layout", "compare_manifests"]

PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
"""Endings of files that are, or may be, pickles: reading one runs what is in it."""
_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_MAX_INDEX_BYTES: Final = 64 << 20
_MAX_CONFIG_BYTES: Final = 1 << 20
_MAX_CONFIG_DEPTH: Final = 32
_CONFIGS: Final = ("config.json", "adapter_config.json")
_CONVERT: Final = "`pratique model import` converts it in a sandbox."


def check_layout(folder: Path, recorded: Manifest | None = None) -> Manifest:
    """Compare a model's folder with its manifest, all but the content, and return the manifest.

    Args:
        folder: with a manifest and the model's files.
        recorded: what was recorded elsewhere; the folder's own manifest must say the same.

    Raises:
        ArtifactError: naming the first file that differs, with what was expected and found.
        UnsafeWeightsError: a file is a pickle.
    """
    manifest = read_manifest(folder)
    if recorded is not None:
        compare_manifests(folder, manifest, recorded)
    with opened(folder) as files:
        names = {entry.name for entry in manifest.files}
        found = files.names() - {MANIFEST}
        for name in sorted(names ^ found):
            _refuse_pickle(files.where(name))
            problem = "is missing" if name in names else "is not in the manifest"
            raise ArtifactError(f"{files.where(name)} {problem}.", hint=AGAIN)
        for entry in manifest.files:
            size = files.identity(entry.name).size_bytes
            if size != entry.size_bytes:
                raise ArtifactError(
                    f"{files.where(entry.name)} has {size} bytes, expected {entry.size_bytes}.", hint=AGAIN
                )
        _check_files(files, names)
    return manifest


def check_unrecorded_layout(folder: Path, *, shown: Path | None = None) -> None:
    """Check a folder without a manifest as far as that goes: kinds of files, headers, shards, configuration.

    Errors name files below `shown` where it is given.

    Raises:
        ArtifactError: naming the first file that is not what it should be; or there are no safetensors.
        UnsafeWeightsError: a file is a pickle.
    """
    with opened(folder, shown=shown) as files:
        names = files.names() - {MANIFEST}
        # Folders in it are none of the model's: engines read the files beside its configuration.
        _check_files(files, {name for name in names if not files.is_folder(name)})


def compare_manifests(folder: Path, manifest: Manifest, recorded: Manifest) -> None:
    """Compare a folder's manifest with the one that was recorded elsewhere.

    Raises:
        ArtifactError: naming the first file about which they differ, or the manifest where it is not about a file.
    """
    here, there = _by_name(manifest.files), _by_name(recorded.files)
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise ArtifactError(
                f"{folder / name} is {_told(here.get(name))} in the folder's manifest, but {_told(there.get(name))} in"
                " the recorded one.",
                hint="The folder, or its manifest, is not the one that was recorded: do not serve it.",
            )
    for field in ("name", "licence", "origin"):
        if (mine := getattr(manifest, field)) != (other := getattr(recorded, field)):
            raise ArtifactError(f"{folder / MANIFEST} says {field} {mine!r}, but {other!r} was recorded.", hint=AGAIN)


def _by_name(entries: Iterable[FileEntry]) -> dict[str, FileEntry]:
    return {entry.name: entry for entry in entries}


def _told(entry: FileEntry | None) -> str:
    return "absent" if entry is None else f"{entry.size_bytes} bytes with SHA-256 {entry.sha256}"


def _check_files(files: Folder, names: set[str]) -> None:
    for name in sorted(names):
        _refuse_pickle(files.where(name))
        files.identity(name)
    weights = {name: _check_tensors(files, name) for name in sorted(names) if name.endswith(".safetensors")}
    if not weights:
        raise ArtifactError(f"{files.path} has no safetensors.", hint="Name a folder with *.safetensors, or import it.")
    _check_shards(files, weights)
    for name in sorted(names):
        if name.endswith(".safetensors.index.json"):
            try:
                check_index(files.read(name, _MAX_INDEX_BYTES), weights)
            except HeaderError as error:
                raise ArtifactError(f"{files.where(name)} cannot be used: {error}.", hint=AGAIN) from error
    for name in _CONFIGS:
        if name in names:
            _check_config(files, name)


def _refuse_pickle(where: str) -> None:
    if PurePath(where).suffix.lower() in PICKLED:
        raise UnsafeWeightsError(f"{where} may hold a pickle: reading it would run what is in it.", hint=_CONVERT)


def _check_tensors(files: Folder, name: str) -> frozenset[str]:
    where = files.where(name)
    with files.open(name) as descriptor:
        size = os.fstat(descriptor).st_size
        first = files.read_at(name, descriptor, offset=0, num_bytes=min(size, LENGTH_BYTES))
        try:
            length = header_length(first, size)
            raw = files.read_at(name, descriptor, offset=LENGTH_BYTES, num_bytes=length)
            return parse_header(raw, size - LENGTH_BYTES - length)
        except HeaderError as error:
            if looks_pickled(first):
                raise UnsafeWeightsError(
                    f"{where} is no safetensors file but looks like a pickle: reading it would run what is in it.",
                    hint=_CONVERT,
                ) from error
            raise ArtifactError(f"{where} is no valid safetensors file: {error}.", hint=AGAIN) from error


def _check_shards(files: Folder, weights: Iterable[str]) -> None:
    groups: dict[tuple[str, int], set[int]] = {}
    for name in weights:
        if found := _SHARD.fullmatch(name):
            groups.setdefault((found["stem"], int(found["count"])), set()).add(int(found["number"]))
    for (stem, count), numbers in groups.items():
        # Compared by number: the declared count may be 99999, and is not worth a list of that length.
        missing = next((number for number in range(1, count + 1) if number not in numbers), None)
        if missing is not None:
            raise ArtifactError(
                f"{files.where(f'{stem}-{missing:05}-of-{count:05}.safetensors')} is missing: a shard of {count}.",
                hint=AGAIN,
            )


def _check_config(files: Folder, name: str) -> None:
    where = files.where(name)
    try:
        config = msgspec.json.decode(files.read(name, _MAX_CONFIG_BYTES), type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{where} is no valid configuration: {error}.", hint=AGAIN) from error
    level: list[object] = [config]
    for _ in range(_MAX_CONFIG_DEPTH):
        level = [child for value in level for child in _children(value)]
    if level:
        raise ArtifactError(f"{where} is nested deeper than {_MAX_CONFIG_DEPTH} levels.", hint=AGAIN)
    for key, value in config.items():
        if isinstance(value, int) and not -(1 << 53) <= value <= 1 << 53:
            raise ArtifactError(f"{where} has {value} for {key[:200]!r}, which no model has.", hint=AGAIN)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
