"""The real converters, in the real sandbox and beside it: good weights arrive as they were, bad ones are named."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pratique.inference.artifacts import _convert, _unpickle
from pratique.inference.artifacts._confine import Bounds
from pratique.inference.artifacts._protocol import Said, Task
from pratique.inference.artifacts.manifest import read_manifest, verify
from pratique.inference.artifacts.sandbox import SandboxReport
from pratique.inference.artifacts.store import import_model, import_planned, plan_import
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

pytestmark = [pytest.mark.integration, pytest.mark.vllm, pytest.mark.timeout(240)]


def quiet(phase: str, share: float) -> None:
    del phase, share


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_pickled_shards_become_safetensors_bit_for_bit(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = model_folder(tmp_path / "モデル")
    base = torch.randn(64, 32)
    first = {"embed.weight": base, "half": base[:32], "turned": base.t(), "層.bias": torch.randn(8).to(torch.bfloat16)}
    second = {"scale": torch.tensor(3.5, dtype=torch.float64), "none": torch.empty(0, 4), "steps": torch.arange(9)}
    torch.save(first, folder / "pytorch_model-00001-of-00002.bin")
    torch.save({"state_dict": second, "epoch": 3}, folder / "pytorch_model-00002-of-00002.bin")
    weight_map = dict.fromkeys(first, "pytorch_model-00001-of-00002.bin")
    weight_map |= dict.fromkeys(second, "pytorch_model-00002-of-00002.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    reports: list[SandboxReport] = []
    made = import_planned(plan_import(str(folder), tmp_path / "root"), quiet, reports.append)
    verify(made)
    assert "network" in reports[0].enforced
    loaded = load_file(made / "model-00001-of-00002.safetensors") | load_file(made / "model-00002-of-00002.safetensors")
    assert loaded.keys() == first.keys() | second.keys()
    for name, tensor in (first | second).items():
        assert torch.equal(loaded[name], tensor), name
        assert loaded[name].dtype == tensor.dtype
    names = {entry.name for entry in read_manifest(made).sources}
    assert names == {"config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}


@pytest.fixture
def unpickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Convert in this process, which measures coverage; what is read here was made here."""
    monkeypatch.setattr(_unpickle, "say", lambda said: None)
    bounds = Bounds(readable=(), writable=(), memory_bytes=0, file_bytes=0, cpu_seconds=0)

    def run(*sources: Path, kind: str = "model") -> Path:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        paths = tuple(str(path) for path in sources)
        _unpickle.convert_pickles(Task(kind=kind, sources=paths, out=str(out), bounds=bounds, parent=0))
        return out

    return run


def saved(path: Path, content: object, **options: Any) -> Path:
    import torch

    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("layout", ["archive", "bare"])
def test_an_adapter_keeps_its_name(tmp_path: Path, unpickle: Callable[..., Path], layout: str) -> None:
    import torch
    from safetensors.torch import load_file

    content = {"base_model.model.q_proj.lora_A.weight": torch.randn(8, 4)}
    options = {} if layout == "archive" else {"_use_new_zipfile_serialization": False}
    out = unpickle(saved(tmp_path / "adapter_model.bin", content, **options), kind="adapter")
    loaded = load_file(out / "adapter_model.safetensors")
    assert torch.equal(loaded["base_model.model.q_proj.lora_A.weight"], next(iter(content.values())))


def odd(kind: str) -> object:
    import torch

    contents: dict[str, Callable[[], object]] = {
        "list": lambda: [torch.zeros(2)],
        "empty": dict,
        "no-names": lambda: {1: torch.zeros(2)},
        "numbers": lambda: {"a": 1},
        "strides": lambda: {"a": torch.zeros(1).expand(10**6, 10**6)},
        "sparse": lambda: {"層": torch.eye(4).to_sparse()},
        "type": lambda: {"a": torch.zeros(4, dtype=torch.complex128)},
    }
    return contents[kind]()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("list", "holds a list, expected a state dict"),
        ("empty", "no tensors by name"),
        ("no-names", "no tensors by name"),
        ("numbers", "no tensors by name"),
        ("strides", "tensors of 4000000000000 bytes in a file of"),
        ("sparse", "'層', which is not a plain dense one"),
        ("type", "that safetensors cannot hold"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, unpickle: Callable[..., Path], kind: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason) as caught:
        unpickle(saved(tmp_path / "weights.pt", odd(kind)))
    assert "weights.pt" in caught.value.message


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path, unpickle: Callable[..., Path]) -> None:
    import torch

    shards = [saved(tmp_path / f"{number}.bin", {"twice": torch.zeros(2)}) for number in range(2)]
    with pytest.raises(ArtifactError, match=r"1\.bin has the tensor 'twice', as a shard before it has"):
        unpickle(*shards)


@pytest.mark.parametrize("length", [0, 1, 100, -1], ids=str)
def test_a_cut_file_is_named_whatever_its_reader_raises(
    tmp_path: Path, unpickle: Callable[..., Path], length: int
) -> None:
    import torch

    whole = saved(tmp_path / "weights.pt", {"a": torch.zeros(1000)}).read_bytes()
    (tmp_path / "weights.pt").write_bytes(whole[:length])
    with pytest.raises((ArtifactError, UnsafeWeightsError), match=r"weights\.pt"), contextlib.suppress(UserWarning):
        unpickle(tmp_path / "weights.pt")


def test_a_reader_without_memory_says_so(
    tmp_path: Path, unpickle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    path = saved(tmp_path / "weights.pt", {"a": torch.zeros(4)})
    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(ArtifactError, match="more memory than its size can explain"):
        unpickle(path)


@pytest.mark.slow
def test_a_file_that_is_no_gguf_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ArtifactError, match=r"broken\.gguf failed with exit code 1") as caught:
        import_model(str(tmp_path / "broken.gguf"), tmp_path / "root", quiet)
    assert "The sandbox: enforced: network" in caught.value.__notes__[-1]
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".lock"]


def write_gguf(path: Path, *, template: str = "{% for m in messages %}{{ m.content }}{% endfor %}") -> Path:
    """Write a whole llama of one tiny layer, with a tokenizer of bytes."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(260)
    writer.add_license("mit")
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(number) for number in [*printable, *range(256, 256 + 256 - len(printable))]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*characters, "ab", "<s>", "</s>", "<pad>"])
    writer.add_token_types([1] * 257 + [3] * 3)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_pad_token_id(259)
    if template:
        writer.add_chat_template(template)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "attn_norm", "ffn_norm")
    shapes = [*[(32, 32)] * 4, *[(64, 32)] * 2, (32, 64), *[(32,)] * 2]
    tensors = {f"blk.0.{name}.weight": shape for name, shape in zip(names, shapes, strict=True)}
    tensors |= {"token_embd.weight": (260, 32), "output.weight": (260, 32), "output_norm.weight": (32,)}
    made = np.random.default_rng(4)
    for name, shape in tensors.items():
        writer.add_tensor(name, made.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.slow
def test_a_gguf_file_becomes_safetensors_in_the_sandbox(tmp_path: Path) -> None:
    reports: list[SandboxReport] = []
    source = write_gguf(tmp_path / "ラマ.gguf")
    folder = import_planned(plan_import(str(source), tmp_path / "root"), quiet, reports.append)
    manifest = verify(folder)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {entry.name for entry in manifest.files}
    assert (manifest.name, manifest.licence) == ("ラマ", "MIT")
    assert [entry.name for entry in manifest.sources] == ["ラマ.gguf"]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert "network" in reports[0].enforced


def gguf_task(source: Path, out: Path) -> Task:
    bounds = Bounds(readable=(), writable=(), memory_bytes=0, file_bytes=0, cpu_seconds=0)
    return Task(kind="gguf", sources=(str(source),), out=str(out), bounds=bounds, parent=0, wants_licence=True)


@pytest.mark.slow
def test_a_gguf_file_keeps_its_weights_and_must_have_a_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf
    import torch
    from safetensors.torch import load_file

    said: list[Said] = []
    monkeypatch.setattr(_convert, "say", said.append)
    monkeypatch.setattr(_convert, "faster_imports", lambda load: load())
    (tmp_path / "in").mkdir()
    source = write_gguf(tmp_path / "in" / "a.gguf")
    _convert.convert_gguf(gguf_task(source, tmp_path))
    assert said[-1].licence == "mit"
    wanted = next(tensor for tensor in gguf.GGUFReader(source).tensors if tensor.name == "blk.0.ffn_up.weight")
    loaded = load_file(tmp_path / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(loaded, torch.from_numpy(wanted.data.copy()).to(torch.bfloat16))
    with pytest.raises(ArtifactError, match="carries no chat template"):
        _convert.convert_gguf(gguf_task(write_gguf(tmp_path / "in" / "b.gguf", template=""), tmp_path))
