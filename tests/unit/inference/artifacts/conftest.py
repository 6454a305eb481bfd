"""A small model made here: two shards of random tensors with index, configuration and tokenizer, and its manifest."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pratique.inference.artifacts.manifest import write_manifest

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
SHARDS: Mapping[str, Tensors] = {
    "model-00001-of-00002.safetensors": {
        "embed.weight": ("BF16", (512, 64)),
        "norm.weight": ("F32", (64,)),
        "empty": ("I64", (0, 3)),
    },
    "model-00002-of-00002.safetensors": {"層.0.weight": ("F16", (256, 64)), "scale": ("F8_E4M3", (640,))},
}
_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8, "F8_E4M3": 1}


def safetensors(header: object, data: bytes) -> bytes:
    raw = (
        header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    )
    return struct.pack("<Q", len(raw)) + raw + data


def header_of(tensors: Tensors) -> dict[str, object]:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in tensors.items():
        size = _BYTES[dtype]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    return header


def model_files() -> dict[str, bytes]:
    made = random.Random(4)  # noqa: S311 - the same bytes every time
    files: dict[str, bytes] = {}
    weight_map: dict[str, str] = {}
    for name, tensors in SHARDS.items():
        header = header_of(tensors)
        size = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")  # type: ignore[index]  # made above
        files[name] = safetensors(header, made.randbytes(size))
        weight_map |= dict.fromkeys(tensors, name)
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    files["config.json"] = json.dumps({"model_type": "llama", "hidden_size": 64, "vocab_size": 512}).encode()
    files["tokenizer.json"] = json.dumps({"vocab": {"日本": 1, "🦙": 2}}).encode()
    files["README.md"] = b"---\nlicense: apache-2.0\n---\n# A model\n"
    return files


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    return model_files()


@pytest.fixture
def make_model(tmp_path: Path, files: dict[str, bytes]) -> Callable[..., Path]:
    """Make a folder of files with a manifest that describes them."""

    def make(content: Mapping[str, bytes] | None = None, *, recorded: bool = True, name: str = "tiny") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file, raw in (files if content is None else content).items():
            (folder / file).write_bytes(raw)
        if recorded:
            write_manifest(folder, name=name, origin="made here", licence="Apache-2.0")
        return folder

    return make
