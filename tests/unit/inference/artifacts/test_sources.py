"""What a source holds and what of it makes a model; nothing is converted here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pratique.inference.artifacts.sources import Source, SourceKind, find_source
from pratique.inference.errors import ArtifactError

pytestmark = pytest.mark.unit

Put = Callable[..., Path]
CONFIG = {"config.json": b"{}"}


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def put(files: Mapping[str, bytes], folder: str = "source") -> Path:
        made = tmp_path / folder
        made.mkdir(parents=True, exist_ok=True)
        for name, raw in files.items():
            (made / name).write_bytes(raw)
        return made

    return put


def names(source: Source) -> tuple[list[str], list[str], list[str]]:
    return [path.name for path in source.weights], [path.name for path in source.companions], list(source.left_out)


def index(*shards: str) -> bytes:
    return json.dumps({"weight_map": {f"t{number}": shard for number, shard in enumerate(shards)}}).encode()


def test_of_pickles_beside_safetensors_the_safetensors_are_taken(put: Put) -> None:
    files = {"model.safetensors": b"", "pytorch_model.bin": b"", "optimizer.pt": b"", "modeling.py": b"", ".git": b""}
    source = find_source(put({**CONFIG, **files, "tokenizer.model": b"", "LICENSE": b"MIT License", "x.onnx": b""}))
    assert source.kind is SourceKind.SAFETENSORS
    assert names(source) == (
        ["model.safetensors"],
        ["LICENSE", "config.json", "tokenizer.model"],
        [".git", "modeling.py", "optimizer.pt", "pytorch_model.bin", "x.onnx"],
    )
    assert source.licence == "MIT"


def test_of_several_sets_of_safetensors_the_index_decides(put: Put) -> None:
    files = {
        "a.safetensors": b"",
        "consolidated.safetensors": b"",
        "model.safetensors.index.json": index("a.safetensors"),
    }
    assert names(find_source(put({**CONFIG, **files})))[0] == ["a.safetensors"]


def test_pickled_shards_lose_their_index(put: Put) -> None:
    shards = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    files = dict.fromkeys(shards, b"") | {"pytorch_model.bin.index.json": index(*shards), "training_args.bin": b""}
    source = find_source(put({**CONFIG, **files}))
    assert source.kind is SourceKind.PICKLES
    assert names(source) == ([*shards], ["config.json"], ["pytorch_model.bin.index.json", "training_args.bin"])


@pytest.mark.parametrize(
    ("ending", "raw"),
    [("safetensors", b""), ("bin", b"")],
)
def test_a_shard_that_the_index_names_must_be_there(put: Put, ending: str, raw: bytes) -> None:
    stem = "model" if ending == "safetensors" else "pytorch_model"
    files = {f"{stem}-00001-of-00002.{ending}": raw}
    files[f"{stem}.{ending}.index.json"] = index(*files, f"{stem}-00002-of-00002.{ending}")
    with pytest.raises(ArtifactError, match="00002-of-00002"):
        find_source(put({**CONFIG, **files}))


@pytest.mark.parametrize("raw", [b"[]", b"\xff", b"[" * 100_000, b"{}"])
def test_an_index_that_is_none_is_named(put: Put, raw: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"model\.safetensors\.index\.json is no index"):
        find_source(put({**CONFIG, "model.safetensors": b"", "model.safetensors.index.json": raw}))


def test_an_index_that_is_huge_is_not_read(put: Put) -> None:
    folder = put({**CONFIG, "model.safetensors": b"", "model.safetensors.index.json": b""})
    os.truncate(folder / "model.safetensors.index.json", 1 << 30)
    with pytest.raises(ArtifactError, match="expected at most"):
        find_source(folder)


def test_an_adapter_is_known_by_its_configuration(put: Put) -> None:
    source = find_source(put({"adapter_config.json": b"{}", "adapter_model.bin": b"", "README.md": b""}))
    assert source.is_adapter
    assert names(source)[0] == ["adapter_model.bin"]


def test_one_pytorch_file_of_any_name_is_the_weights_and_of_several_one_is_named(put: Put) -> None:
    folder = put({**CONFIG, "weights.pth": b""})
    assert names(find_source(folder))[0] == ["weights.pth"]
    put({"other.pt": b""})
    with pytest.raises(ArtifactError, match="several PyTorch files") as caught:
        find_source(folder)
    assert "Name the file" in str(caught.value.hint)
    assert names(find_source(folder / "other.pt"))[0] == ["other.pt"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "no config.json"),
        ({"model.safetensors": b""}, "no config.json"),
        (CONFIG, "no weights"),
        ({**CONFIG, "x.gguf": b""}, "no weights"),
        ({**CONFIG, "optimizer.pt": b""}, "no weights"),
    ],
)
def test_a_folder_without_a_model_is_refused(put: Put, files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        find_source(put(files))


def test_a_path_to_nothing_is_refused(put: Put, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", put(CONFIG) / "config.json"):
        with pytest.raises(ArtifactError, match="found nothing such"):
            find_source(path)


def test_a_link_out_of_the_folder_is_not_followed(put: Put) -> None:
    folder = put({**CONFIG, "model.safetensors": b""})
    (folder / "tokenizer.json").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is a link that leads out"):
        find_source(folder)


def test_a_pipe_is_not_waited_for(put: Put) -> None:
    folder = put({**CONFIG, "model.safetensors": b""})
    os.mkfifo(folder / "tokenizer.json")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a regular file"):
        find_source(folder)


def test_the_links_of_a_hubs_cache_are_followed_and_its_name_is_kept(put: Put, tmp_path: Path) -> None:
    blobs = put({"aaa": b"{}", "bbb": b""}, "models--org--tiny-ja/blobs")
    snapshot = put({}, "models--org--tiny-ja/snapshots/0123abc")
    (snapshot / "config.json").symlink_to("../../blobs/aaa")
    (snapshot / "model.safetensors").symlink_to("../../blobs/bbb")
    source = find_source(snapshot)
    assert (source.name, source.origin) == ("tiny-ja", "Hugging Face org/tiny-ja, revision 0123abc")
    assert source.weights == (snapshot / "model.safetensors",)
    assert blobs.exists()


def test_more_files_than_a_model_has_are_refused(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.inference.artifacts.sources._MAX_FILES", 1)
    with pytest.raises(ArtifactError, match="more than 1 files"):
        find_source(put({**CONFIG, "a": b""}))


def test_a_folder_that_cannot_be_read_is_named(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(CONFIG)

    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ArtifactError, match="cannot be read: Permission denied"):
        find_source(folder)


def test_a_gguf_file_is_alone(put: Put) -> None:
    source = find_source(put({"日本.Q4_1.gguf": b"GGUF", **CONFIG}) / "日本.Q4_1.gguf")
    assert (source.kind, source.name, source.size_bytes) == (SourceKind.GGUF, "日本.Q4_1", 4)
    assert source.files == source.weights
