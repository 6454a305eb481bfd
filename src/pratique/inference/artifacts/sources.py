"""What a source holds and what of it makes a model: the plan of an import, made before anything is written.

A source is a GGUF file, a PyTorch weights file, or a folder as model hubs offer it: safetensors or pickles, whole or in
shards, with configuration and tokenizer; or a LoRA adapter's. Of pickles beside safetensors the safetensors are taken.
What a model does not need is left out and named: optimizer states, code, other formats, folders.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from pratique.inference.artifacts._files import printable
from pratique.inference.artifacts._layout import PICKLED
from pratique.inference.artifacts._record import MANIFEST
from pratique.inference.artifacts.licences import NOT_STATED, find_licence
from pratique.inference.errors import ArtifactError

__all__ = ["Source", "SourceKind", "find_source"]

_KEPT_ENDINGS: Final = frozenset({".json", ".jinja", ".txt", ".model", ".md", ".tiktoken", ".vocab", ".spm"})
_KEPT_NAMES: Final = re.compile(r"(?i)(licen[cs]e|notice|copying|use_policy).*")
_LEFTOVERS: Final = re.compile(r"(?i)(optimizer|scheduler|training_args|rng_state|scaler|random_states).*")
"""What trainers leave beside the weights: pickles, but no weights."""
_MAX_TEXT_BYTES: Final = 1 << 16
_MAX_INDEX_BYTES: Final = 64 << 20
_MAX_FILES: Final = 10_000
_HUB_FOLDER: Final = re.compile(r"models--(?P<owner>.+)--(?P<name>.+)")


class SourceKind(enum.Enum):
    """How the weights come."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    PICKLES = "pickles"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an import reads. Nothing has been written or converted yet."""

    path: Path
    name: str
    kind: SourceKind
    is_adapter: bool
    weights: tuple[Path, ...]
    companions: tuple[Path, ...]
    """Copied as they are: configuration, tokenizer, licence, card."""
    left_out: tuple[str, ...]
    licence: str
    origin: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that goes into the model."""
        return self.weights + self.companions

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(path.stat().st_size for path in self.files)


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def find_source(path: Path) -> Source:
    """Look at a path and say what would be imported from it.

    Raises:
        ArtifactError: there is no model, it is not whole, or a link leads out of it.
    """
    try:
        if path.is_dir():
            return _of_folder(path.resolve(), only=None)
        if path.is_file() and path.suffix == ".gguf":
            return _of_gguf(path)
        if path.is_file() and path.suffix in PICKLED:
            return _of_folder(path.resolve().parent, only=path.name, named=path.resolve())
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    raise ArtifactError(
        f"Expected 'small', a GGUF or PyTorch file, or a model's folder; found nothing such at {printable(str(path))}.",
        hint="`pratique model import small` imports the small model.",
    )


def _of_gguf(path: Path) -> Source:
    real = path.resolve()
    return Source(
        path=real,
        name=path.absolute().name.removesuffix(".gguf"),
        kind=SourceKind.GGUF,
        is_adapter=False,
        weights=(real,),
        companions=(),
        left_out=(),
        licence=NOT_STATED,
        origin=printable(str(real)),
    )


def _of_folder(folder: Path, *, only: str | None, named: Path | None = None) -> Source:
    files = _files(folder)
    config = next((name for name in ("adapter_config.json", "config.json") if name in files), None)
    if config is None:
        raise ArtifactError(
            f"{folder} has no config.json and no adapter_config.json: no engine could tell what it is.",
            hint="Name the folder as the model hub offers it, with configuration and tokenizer.",
        )
    is_adapter = config == "adapter_config.json"
    kind, weights = _weights(folder, files, is_adapter=is_adapter, only=only)
    companions = {
        name
        for name in files
        if name not in weights and name != MANIFEST and _is_companion(name) and not _is_old_index(name, kind)
    }
    name, origin = _identity(folder)
    return Source(
        path=named or folder,
        name=name,
        kind=kind,
        is_adapter=is_adapter,
        weights=tuple(folder / name for name in weights),
        companions=tuple(folder / name for name in sorted(companions)),
        left_out=tuple(
            sorted(printable(entry.name) for entry in folder.iterdir() if entry.name not in {*weights, *companions})
        ),
        licence=find_licence({name: _beginning(folder / name) for name in companions}),
        origin=origin,
    )


def _files(folder: Path) -> dict[str, Path]:
    """Return the folder's files by name. Links may lead into the folder, or the model hub's cache around it."""
    repository = folder.parent.parent if folder.parent.name == "snapshots" else folder
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        real = entry.resolve()
        if entry.is_symlink() and not real.is_relative_to(repository):
            raise ArtifactError(
                f"{printable(str(entry))} is a link that leads out of the model's folder.",
                hint="Put the file itself there, if it belongs to the model.",
            )
        if entry.is_file():
            found[entry.name] = real
        elif not entry.is_dir():
            raise ArtifactError(f"{printable(str(entry))} is not a regular file.", hint="A model has plain files only.")
        if len(found) > _MAX_FILES:
            raise ArtifactError(f"{folder} holds more than {_MAX_FILES} files, which no model has.")
    return found


def _weights(
    folder: Path, files: Mapping[str, Path], *, is_adapter: bool, only: str | None
) -> tuple[SourceKind, tuple[str, ...]]:
    stem = "adapter_model" if is_adapter else "model"
    safe = tuple(name for name in files if name.endswith(".safetensors"))
    pickled = tuple(name for name in files if Path(name).suffix in PICKLED and not _LEFTOVERS.fullmatch(name))
    if only is not None:
        return SourceKind.PICKLES, (only,)
    if safe:
        return SourceKind.SAFETENSORS, _complete(folder, files, f"{stem}.safetensors.index.json", safe)
    if not pickled:
        hint = (
            "Name the GGUF file itself." if any(name.endswith(".gguf") for name in files) else "Name a model's folder."
        )
        raise ArtifactError(f"{folder} has no weights: no safetensors and no PyTorch files.", hint=hint)
    for main in ("adapter_model", "pytorch_model"):
        named = tuple(name for name in pickled if re.fullmatch(rf"{main}(-\d+-of-\d+)?\.bin", name))
        if named:
            return SourceKind.PICKLES, _complete(folder, files, f"{main}.bin.index.json", named)
    if len(pickled) > 1:
        raise ArtifactError(
            f"{folder} has several PyTorch files, and none is the usual one: {', '.join(map(printable, pickled[:5]))}.",
            hint="Name the file with the weights.",
        )
    return SourceKind.PICKLES, pickled


def _complete(folder: Path, files: Mapping[str, Path], index: str, weights: Iterable[str]) -> tuple[str, ...]:
    """Return the weights, of which an index may name more than there are, or fewer."""
    if index not in files:
        return tuple(weights)
    path = folder / index
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise ArtifactError(f"{path} has {path.stat().st_size} bytes, expected at most {_MAX_INDEX_BYTES}.")
    try:
        named = set(msgspec.json.decode(path.read_bytes(), type=_Index).weight_map.values())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no index of shards: {error}.", hint="Get the model again.") from error
    if missing := sorted(named - files.keys()):
        raise ArtifactError(
            f"{printable(str(folder / missing[0]))} is missing: {index} names it.", hint="Get the model again, whole."
        )
    return tuple(sorted(named))


def _is_companion(name: str) -> bool:
    return not name.startswith(".") and (Path(name).suffix in _KEPT_ENDINGS or bool(_KEPT_NAMES.fullmatch(name)))


def _is_old_index(name: str, kind: SourceKind) -> bool:
    """Whether it is the index of weights that are not taken, or that get a new one."""
    return name.endswith(".bin.index.json") or (name.endswith(".safetensors.index.json") and kind is SourceKind.PICKLES)


def _identity(folder: Path) -> tuple[str, str]:
    """Return the model's name and origin; of a model hub's cache, what the hub calls it."""
    hub = _HUB_FOLDER.fullmatch(folder.parent.parent.name) if folder.parent.name == "snapshots" else None
    if hub:
        return hub["name"], printable(f"Hugging Face {hub['owner']}/{hub['name']}, revision {folder.name}")
    return folder.name, printable(str(folder))


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_TEXT_BYTES).decode(errors="replace")
