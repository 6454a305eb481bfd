"""Pickled PyTorch weights → safetensors. Runs in the sandboxed process only.

`torch.load(weights_only=True)` takes nothing but tensors and plain containers; the sandbox around it is for the day
that this has a hole. Before it, the archive is looked at: what is compressed, or says it is larger than its file, is a
bomb. After it, what is written is bounded by what was read: a tensor of a few bytes can claim terabytes by its strides.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from pratique.inference.artifacts._files import printable
from pratique.inference.artifacts._protocol import Said, Task, say
from pratique.inference.engines._process import faster_imports
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

__all__ = ["convert_pickles"]

_MAX_RECORDS: Final = 200_000
_MAX_GROWTH: Final = 4
"""Shared tensors are written once each: twice the file is plausible, more is not."""
_WRAPPERS: Final = ("state_dict", "model", "module", "model_state_dict")
_FORBIDDEN: Final = re.compile(r"GLOBAL ([\w.]+)|Unsupported (operand \d+)")


def convert_pickles(task: Task) -> None:
    """Convert each source into one file of safetensors; several get an index.

    Raises:
        UnsafeWeightsError: one asks for more than tensors. ArtifactError: one is malformed, or no state dict.
    """
    say(Said(phase="importing torch", progress=0.05))
    faster_imports(_import)
    out, count = Path(task.out), len(task.sources)
    stem = "adapter_model" if task.kind == "adapter" else "model"
    weight_map: dict[str, str] = {}
    total = 0
    for number, source in enumerate(task.sources, 1):
        say(Said(phase=f"converting {printable(Path(source).name)}", progress=0.1 + 0.8 * (number - 1) / count))
        name = f"{stem}.safetensors" if count == 1 else f"{stem}-{number:05}-of-{count:05}.safetensors"
        tensors = _read(Path(source))
        if twice := weight_map.keys() & tensors.keys():
            raise ArtifactError(f"{Path(source).name} has the tensor {min(twice)[:200]!r}, as a shard before it has.")
        total += _write(tensors, out / name, Path(source))
        weight_map |= dict.fromkeys(tensors, name)
    if count > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (out / f"{stem}.safetensors.index.json").write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=2))


def _import() -> None:
    # For what they load.
    import safetensors.torch  # noqa: F401
    import torch  # noqa: F401


def _read(source: Path) -> dict[str, Any]:
    import torch

    is_archive = _check_archive(source)
    try:
        content: Any = torch.load(source, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        found = _FORBIDDEN.search(str(error))
        # Its own words go on to advise the load without this check.
        asks = f"it asks for {found[1] or found[2]}" if found else "it holds what is no tensor, or is malformed"
        raise UnsafeWeightsError(f"{source.name} cannot be read without running what is in it: {asks}.") from error
    except MemoryError as error:
        raise ArtifactError(f"{source.name} takes more memory than its size can explain.") from error
    except Exception as error:  # malformed files make the reader raise anything; the process ends here
        raise ArtifactError(f"{source.name} cannot be read: {type(error).__name__}: {str(error)[:300]}") from error
    return _tensors(content, source)


def _check_archive(source: Path) -> bool:
    """Whether it is an archive (PyTorch ≥ 1.6), not a bare pickle; refuses one that would unpack to more than it is."""
    if not zipfile.is_zipfile(source):
        return False
    try:
        with zipfile.ZipFile(source) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise ArtifactError(f"{source.name} is a broken archive: {error}.") from error
    if len(records) > _MAX_RECORDS:
        raise ArtifactError(f"{source.name} holds {len(records)} records, expected at most {_MAX_RECORDS}.")
    packed = next((record for record in records if record.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise ArtifactError(
            f"{source.name} is compressed ({printable(packed.filename[:200])}); PyTorch never writes such files."
        )
    if sum(record.file_size for record in records) > source.stat().st_size:
        raise ArtifactError(f"{source.name} says that it unpacks to more than it holds.")
    return True


def _tensors(content: object, source: Path) -> dict[str, Any]:
    import torch

    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise ArtifactError(f"{source.name} holds a {type(content).__name__}, expected a state dict.")
    found = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not found or not all(isinstance(name, str) for name in found):
        raise ArtifactError(f"{source.name} holds no tensors by name: it is no state dict.")
    odd = next((name for name, value in found.items() if value.layout != torch.strided or value.is_quantized), None)
    if odd is not None:
        raise ArtifactError(f"{source.name} has the tensor {odd[:200]!r}, which is not a plain dense one.")
    needed = sum(value.numel() * value.element_size() for value in found.values())
    if needed > _MAX_GROWTH * source.stat().st_size:
        raise ArtifactError(f"{source.name} has tensors of {needed} bytes in a file of {source.stat().st_size}.")
    return found


def _write(tensors: Mapping[str, Any], target: Path, source: Path) -> int:
    from safetensors.torch import save_file

    storages: set[int] = set()
    plain: dict[str, Any] = {}
    for name, tensor in tensors.items():
        alone = tensor.detach().contiguous()
        place = alone.untyped_storage().data_ptr()
        # The format has no shared tensors: each gets bytes of its own.
        is_part = place in storages or alone.untyped_storage().nbytes() != alone.numel() * alone.element_size()
        plain[name] = alone.clone() if is_part else alone
        storages.add(place)
    try:
        save_file(plain, target, metadata={"format": "pt"})
    except (KeyError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{source.name} has tensors that safetensors cannot hold: {str(error)[:300]}") from error
    return sum(tensor.numel() * tensor.element_size() for tensor in plain.values())
