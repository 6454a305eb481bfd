"""The LoRA adapters of one engine: checked before vLLM reads them, and each load under a path of its own.

vLLM knows the blocks of its prefix cache by the adapter's name and path. A name that is loaded again could meet the
blocks of the adapter that had it before; so each load goes through a link that no other load had.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NewType

import msgspec

from pratique.inference.artifacts.tensors import LENGTH_BYTES, HeaderError, header_length, parse_header
from pratique.inference.engines.interface import Adapter
from pratique.inference.errors import EngineError, UnknownModelError, UnsafeWeightsError

__all__ = ["MAX_ADAPTERS", "AdapterTable", "LoadId", "Loaded", "check_adapter", "link_adapter"]

MAX_ADAPTERS: Final = 64
"""So many are kept in memory; past that vLLM would forget some, and read them again while others wait."""

LoadId = NewType("LoadId", int)
"""vLLM's lora_int_id: from 1, another one for each load."""
_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
_MAX_CONFIG_BYTES: Final = 1 << 20
_PREFIX: Final = "base_model.model."
_METADATA: Final = "__metadata__"
_A: Final = ".lora_A.weight"
_B: Final = ".lora_B.weight"


class _PeftConfig(msgspec.Struct, frozen=True):
    peft_type: str
    r: int


class _Tensor(msgspec.Struct, frozen=True):
    shape: list[int]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An adapter as the engine has it."""

    adapter: Adapter
    load_id: LoadId


def check_adapter(adapter: Adapter, *, model: Path, max_rank: int) -> None:
    """Refuse an adapter's folder that vLLM should not open, or that does not fit the model in `model`. Blocks.

    Raises:
        UnsafeWeightsError: it holds pickles. EngineError: it is no PEFT adapter, its rank is too large, or its matrices
            have other shapes than the model's; vLLM would take too small ones without a word.
    """
    folder = adapter.folder
    if not folder.is_dir():
        raise EngineError(f"The adapter '{adapter.name}' is not there: expected a folder at {folder}.")
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLED)
    if pickled:
        raise UnsafeWeightsError(
            f"{folder / pickled[0]} may hold a pickle: reading it would run what is in it.",
            hint="Save the adapter with safe_serialization=True, and leave the pickles out.",
        )
    config = _read_config(folder / _CONFIG)
    if config.peft_type != "LORA":
        raise EngineError(f"{folder / _CONFIG} is of the type '{config.peft_type}', expected 'LORA'.")
    _check_rank(adapter, config.r, max_rank)
    shapes = dict(_shapes(folder / _WEIGHTS))
    wanted = _model_shapes(model, {_base_name(name) for name in shapes})
    for name, shape in shapes.items():
        _check_shape(adapter, name, shape, wanted.get(_base_name(name)))
        if name.endswith(_A):
            _check_rank(adapter, shape[0], max_rank)


def _check_rank(adapter: Adapter, rank: int, max_rank: int) -> None:
    if not 1 <= rank <= max_rank:
        raise EngineError(
            f"The adapter '{adapter.name}' has the rank {rank}, expected 1 to {max_rank}.", hint="Raise max_lora_rank."
        )


def _check_shape(adapter: Adapter, name: str, shape: list[int], wanted: list[int] | None) -> None:
    """A is [rank, inputs], B is [outputs, rank] of a weight that is [outputs, inputs]."""
    if wanted is None or len(wanted) != 2:  # noqa: PLR2004 - a matrix; vLLM says what else it does not take
        return
    fits = len(shape) == 2 and (shape[1] == wanted[1] if name.endswith(_A) else shape[0] == wanted[0])  # noqa: PLR2004
    if not fits:
        raise EngineError(
            f"The adapter '{adapter.name}' does not fit the model: {name} is {shape}, for a weight of {wanted}.",
            hint="It was trained on another model.",
        )


def _base_name(name: str) -> str:
    return name.removeprefix(_PREFIX).removesuffix(_A).removesuffix(_B) + ".weight"


def _model_shapes(folder: Path, names: set[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= {name: shape for name, shape in _shapes(file) if name in names}
    return found


def _shapes(file: Path) -> Iterator[tuple[str, list[int]]]:
    """The names and shapes in a file's header, which is checked before."""
    try:
        with file.open("rb") as opened:
            size = file.stat().st_size
            length = header_length(opened.read(LENGTH_BYTES), size)
            raw = opened.read(length)
        parse_header(raw, size - LENGTH_BYTES - length)
    except (OSError, HeaderError) as error:
        raise EngineError(f"{file} cannot be read as safetensors: {error}.") from error
    for name, part in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).items():
        if name != _METADATA:
            yield name, msgspec.json.decode(part, type=_Tensor).shape


def _read_config(path: Path) -> _PeftConfig:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_CONFIG_BYTES), type=_PeftConfig)
    except (OSError, msgspec.DecodeError) as error:
        raise EngineError(
            f"{path} is no PEFT configuration: {error}.", hint="PEFT's save_pretrained writes it."
        ) from error


class AdapterTable:
    """The loaded adapters by name, and the ids of their loads. No I/O."""

    def __init__(self, *, base: str) -> None:
        self._base = base
        self._loaded: dict[str, Loaded] = {}
        self._ids = itertools.count(1)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def all(self) -> list[Adapter]:
        """Return the adapters in the order of their first load."""
        return [loaded.adapter for loaded in self._loaded.values()]

    def next_id(self, adapter: Adapter) -> LoadId:
        """Return an id that no load had. Raises EngineError where the name is the model's own, or there is no room."""
        if adapter.name == self._base:
            raise EngineError(f"The adapter '{adapter.name}' has the model's own name, expected another one.")
        if adapter.name not in self._loaded and len(self._loaded) >= MAX_ADAPTERS:
            raise EngineError(
                f"The adapter '{adapter.name}' is one too many: {MAX_ADAPTERS} are loaded.", hint="Unload one."
            )
        return LoadId(next(self._ids))

    def put(self, adapter: Adapter, load_id: LoadId) -> Loaded | None:
        """Enter a load that went well; return the one that it replaces."""
        before = self._loaded.get(adapter.name)
        self._loaded[adapter.name] = Loaded(adapter=adapter, load_id=load_id)
        return before

    def get(self, name: str) -> Loaded:
        """Return a loaded adapter. Raises UnknownModelError."""
        try:
            return self._loaded[name]
        except KeyError:
            known = ", ".join(self._loaded) or "none"
            raise UnknownModelError(f"No adapter '{name}' is loaded, expected one of: {known}.") from None

    def pop(self, name: str) -> Loaded:
        """Forget an adapter. Raises EngineError for a name that is not loaded."""
        try:
            return self._loaded.pop(name)
        except KeyError:
            known = ", ".join(self._loaded) or "none"
            raise EngineError(f"No adapter '{name}' is loaded, expected one of: {known}.") from None


def link_adapter(adapter: Adapter, load_id: LoadId, folder: Path) -> Path:
    """Return a path of the adapter's folder that no other load has: a link in `folder`, which belongs to one life."""
    link = folder / f"adapter-{load_id}"
    link.symlink_to(adapter.folder.resolve(), target_is_directory=True)
    return link
