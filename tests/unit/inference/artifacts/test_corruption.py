"""The corpus of corruptions: each is refused with the file's name, at once, whatever the manifest says of it.

Two families. Damage leaves the manifest as it was: the checksums find it. Forgery describes the bad file rightly in the
manifest: the layout alone must find it, before any engine opens the file.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pratique.inference.artifacts.manifest import (
    MANIFEST,
    check_layout,
    check_unrecorded_layout,
    read_manifest,
    verify,
    write_manifest,
)
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

from .conftest import SHARDS, header_of, model_files, safetensors

pytestmark = pytest.mark.unit

FILES = model_files()
FIRST, SECOND = sorted(SHARDS)
INDEX = "model.safetensors.index.json"
Make = Callable[..., Path]
Damage = Callable[[Path], object]


def flip(name: str, position: int, bit: int = 0) -> Damage:
    def damage(folder: Path) -> None:
        raw = bytearray((folder / name).read_bytes())
        raw[position] ^= 1 << bit
        (folder / name).write_bytes(raw)

    return damage


def cut(name: str, length: int) -> Damage:
    return lambda folder: os.truncate(folder / name, length)


def boundaries(name: str) -> dict[str, int]:
    """Return where the parts of a safetensors file begin."""
    length = struct.unpack("<Q", FILES[name][:8])[0]
    found = {"header": 8, "data": 8 + length}
    for tensor, entry in header_of(SHARDS[name]).items():
        if tensor != "__metadata__":
            begin, end = entry["data_offsets"]  # type: ignore[index]  # made by header_of
            found |= {f"{tensor}-begin": 8 + length + begin, f"{tensor}-end": 8 + length + end}
    return found


def damages() -> Iterator[tuple[str, str, Damage]]:
    """Every damage: an id, the file that must be named, and what does it."""
    for name in (FIRST, SECOND):
        yield from damages_of_shard(name)
    for name in sorted(FILES.keys() - {FIRST, SECOND}):
        for share in range(4):
            yield f"flip-{name}-{share}", name, flip(name, share * (len(FILES[name]) - 1) // 3, 1)
        yield f"cut-{name}-to-0", name, cut(name, 0)
        yield f"cut-{name}-by-1", name, cut(name, len(FILES[name]) - 1)
    for name in FILES:
        yield f"missing-{name}", name, missing(name)
    for kind, make in SPECIAL.items():
        yield f"{kind}-for-shard", FIRST, replaced_by(FIRST, make)
        yield f"{kind}-for-manifest", MANIFEST, replaced_by(MANIFEST, make)
        yield f"{kind}-added", "added", added("added", make)
    for name in ("extra.safetensors", "extra.json", "日本.txt", ".hidden", "model-00003-of-00003.safetensors"):
        yield f"extra-{name}", name, added(name, Path.touch)
    yield "exchanged-shards", FIRST, exchange


def damages_of_shard(name: str) -> Iterator[tuple[str, str, Damage]]:
    raw = FILES[name]
    length = struct.unpack("<Q", raw[:8])[0]
    for position in range(8):
        yield f"flip-{name}-length-{position}", name, flip(name, position)
    for share in range(16):
        yield f"flip-{name}-json-{share}", name, flip(name, 8 + share * (length - 1) // 15, share % 8)
    for place, position in boundaries(name).items():
        for where in {min(position, len(raw) - 1), position - 1}:
            yield f"flip-{name}-{place}{where - position:+}", name, flip(name, where, 7)
        if position < len(raw):
            yield f"cut-{name}-at-{place}", name, cut(name, position)
    for left in (0, 1, 7, len(raw) - 1):
        yield f"cut-{name}-to-{left}", name, cut(name, left)
    yield f"longer-{name}", name, lambda folder: (folder / name).write_bytes(raw + b"\0")


def missing(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def added(name: str, make: Damage) -> Damage:
    return lambda folder: make(folder / name)


def exchange(folder: Path) -> None:
    (folder / FIRST).rename(folder / "x")
    (folder / SECOND).rename(folder / FIRST)
    (folder / "x").rename(folder / SECOND)


def replaced_by(name: str, make: Damage) -> Damage:
    def damage(folder: Path) -> None:
        shutil.move(folder / name, folder.parent / f"real-{name}")
        make(folder / name)

    return damage


def make_socket(path: Path) -> None:
    # A socket's path may have 108 bytes only; a temporary folder's has more.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


SPECIAL: Mapping[str, Damage] = {
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "socket": make_socket,
    "link-out": lambda path: path.symlink_to(path.parent.parent / f"real-{path.name}"),
    "link-to-passwd": lambda path: path.symlink_to("/etc/passwd"),
    "link-to-itself": lambda path: path.symlink_to(path.name),
    "link-to-nothing": lambda path: path.symlink_to("nothing"),
    "link-to-zeros": lambda path: path.symlink_to("/dev/zero"),
}

DAMAGES = list(damages())


def test_the_corpus_is_as_large_as_it_was() -> None:
    assert len(DAMAGES) >= 130
    assert len({name for name, _, _ in DAMAGES}) == len(DAMAGES)
    assert len(FORGERIES) >= 25
    assert len(MANIFESTS) >= 25


@pytest.mark.parametrize(("named", "damage"), [pytest.param(file, do, id=name) for name, file, do in DAMAGES])
def test_damage_is_refused_by_the_files_name(make_model: Make, named: str, damage: Damage) -> None:
    folder = make_model()
    damage(folder)
    began = time.monotonic()
    with pytest.raises(ArtifactError) as caught:
        verify(folder)
    assert caught.value.code == "model_load_failure"
    assert named in caught.value.message
    assert time.monotonic() - began < 5  # a pipe or an endless device would hold it for good


def header_bomb(depth: int) -> bytes:
    return safetensors(b'{"a":' + b"[" * depth, b"")


def bare(tensors: Mapping[str, object], data: bytes = b"") -> bytes:
    return safetensors(dict(tensors), data)


def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


PICKLE = b"\x80\x02cposix\nsystem\n(X\x0c\x00\x00\x00touch /tmp/xtR."
FORGERIES: Mapping[str, tuple[str, dict[str, bytes | None]]] = {
    "empty": (FIRST, {FIRST: b""}),
    "seven-bytes": (FIRST, {FIRST: b"1234567"}),
    "length-2^63": (FIRST, {FIRST: struct.pack("<Q", 1 << 63) + b"{}"}),
    "length-2^64-1": (FIRST, {FIRST: struct.pack("<Q", (1 << 64) - 1) + b"{}"}),
    "length-over-file": (FIRST, {FIRST: struct.pack("<Q", 100) + b"{}"}),
    "no-json": (FIRST, {FIRST: safetensors(b"\0" * 100, b"")}),
    "deep-json": (FIRST, {FIRST: header_bomb(200_000)}),
    "huge-shape": (FIRST, {FIRST: bare({"a": tensor("F32", [1 << 40, 1 << 40], 0, 8)}, bytes(8))}),
    "overflowing-shape": (FIRST, {FIRST: bare({"a": tensor("U8", [1 << 61, 8], 0, 0)})}),
    "offsets-past-the-end": (FIRST, {FIRST: bare({"a": tensor("U8", [100], 0, 100)}, bytes(8))}),
    "overlap": (FIRST, {FIRST: bare({"a": tensor("U8", [8], 0, 8), "b": tensor("U8", [8], 4, 12)}, bytes(12))}),
    "hole": (FIRST, {FIRST: bare({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 8, 12)}, bytes(12))}),
    "bytes-left-over": (FIRST, {FIRST: bare({"a": tensor("U8", [4], 0, 4)}, bytes(5))}),
    "wrong-size": (FIRST, {FIRST: bare({"a": tensor("F64", [4], 0, 4)}, bytes(4))}),
    "pickle-as-safetensors": (FIRST, {FIRST: PICKLE}),
    "archive-as-safetensors": (FIRST, {FIRST: b"PK\x03\x04" + bytes(100)}),
    "pickle-beside": ("pytorch_model.bin", {"pytorch_model.bin": PICKLE}),
    "pickle-of-a-trainer": ("Optimizer.PT", {"Optimizer.PT": b""}),
    "checkpoint": ("x.ckpt", {"x.ckpt": b""}),
    "index-without-shard": (SECOND, {SECOND: None}),
    "index-names-another-file": (INDEX, {INDEX: FILES[INDEX].replace(b"00002-of", b"00009-of")}),
    "index-escapes": (INDEX, {INDEX: FILES[INDEX].replace(SECOND.encode(), b"../../x.safetensors")}),
    "index-moves-a-tensor": (
        INDEX,
        {INDEX: FILES[INDEX].replace(b'"norm.weight": "model-00001', b'"norm.weight": "model-00002')},
    ),
    "index-is-no-json": (INDEX, {INDEX: b"]"}),
    "shard-missing-without-index": (SECOND, {SECOND: None, INDEX: None}),
    "shard-of-99999": (
        "x-00001-of-99999.safetensors".replace("00001", "00002"),
        {"x-00001-of-99999.safetensors": bare({})},
    ),
    "config-is-a-list": ("config.json", {"config.json": b"[]"}),
    "config-is-deep": ("config.json", {"config.json": b'{"a":' * 40 + b"1" + b"}" * 40}),
    "config-is-a-bomb": ("config.json", {"config.json": b'{"a":' * 100_000}),
    "config-is-huge": ("config.json", {"config.json": b'{"a":"' + b"x" * (1 << 20) + b'"}'}),
    "config-has-no-such-size": ("config.json", {"config.json": b'{"hidden_size": 99999999999999999999}'}),
    "no-weights": ("", {FIRST: None, SECOND: None, INDEX: None}),
}


@pytest.mark.parametrize("is_recorded", [True, False], ids=["recorded", "unrecorded"])
@pytest.mark.parametrize(("named", "changes"), [pytest.param(*case, id=name) for name, case in FORGERIES.items()])
def test_forgery_is_refused_by_the_layout_alone(
    make_model: Make, named: str, changes: dict[str, bytes | None], is_recorded: bool
) -> None:
    content = {name: raw for name, raw in {**FILES, **changes}.items() if raw is not None}
    folder = make_model(content, recorded=is_recorded)
    check: Callable[[Path], object] = check_layout if is_recorded else check_unrecorded_layout
    with pytest.raises((ArtifactError, UnsafeWeightsError)) as caught:
        check(folder)
    assert str(folder / named) in caught.value.message
    is_pickle = "pickle" in caught.value.message
    assert caught.value.code == ("unsafe_weights" if is_pickle else "model_load_failure")
    assert is_pickle == (
        PICKLE in content.values() or named in {"Optimizer.PT", "x.ckpt"} or content.get(FIRST, b"")[:2] == b"PK"
    )


@pytest.mark.parametrize("bomb", ["declared-100-MB", "real-16-MB"])
def test_a_header_bomb_takes_no_memory(make_model: Make, bomb: str) -> None:
    folder = make_model()
    with (folder / FIRST).open("wb") as file:
        if bomb == "declared-100-MB":
            file.write(struct.pack("<Q", 100_000_000))
            file.truncate(100_000_008)  # sparse: no disk either
        else:
            file.write(struct.pack("<Q", 16 << 20) + b'{"a":"')
            file.truncate((16 << 20) + 8)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=FIRST):
            check_unrecorded_layout(folder)
        assert tracemalloc.get_traced_memory()[1] < 120_000_000
    finally:
        tracemalloc.stop()


def rewritten(change: Callable[[dict[str, object]], object]) -> Callable[[bytes], bytes]:
    def rewrite(raw: bytes) -> bytes:
        manifest = json.loads(raw)
        change(manifest)
        return json.dumps(manifest).encode()

    return rewrite


def file_field(field: str, value: object) -> Callable[[bytes], bytes]:
    return rewritten(lambda manifest: manifest["files"][0].update({field: value}))  # type: ignore[index]  # JSON


def field(name: str, value: object) -> Callable[[bytes], bytes]:
    return rewritten(lambda manifest: manifest.update({name: value}))


MANIFESTS: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[:-10],
    "two": lambda raw: raw + raw,
    "no-utf8": lambda raw: raw.replace(b"made here", b"\xff\xfe"),
    "deep": lambda raw: b"[" * 200_000,
    "list": lambda raw: b"[]",
    "schema-0": field("schema_version", 0),
    "schema-3": field("schema_version", 3),
    "schema-text": field("schema_version", "1"),
    "unknown-key": field("signed", True),
    "unknown-key-of-file": file_field("mode", 511),
    "no-files": field("files", []),
    "control-characters": field("name", "a\x1b[2J"),
    "line-in-origin": field("origin", "a\nb"),
    "size-negative": file_field("size_bytes", -1),
    "size-fraction": file_field("size_bytes", 1.5),
    "size-huge": file_field("size_bytes", 1 << 70),
    "hash-short": file_field("sha256", "ab"),
    "hash-upper": file_field("sha256", "A" * 64),
    "hash-line": file_field("sha256", "a" * 64 + "\n"),
    "name-absolute": file_field("name", "/etc/passwd"),
    "name-up": file_field("name", "../passwd"),
    "name-inside": file_field("name", "a/b"),
    "name-dot": file_field("name", "."),
    "name-dots": file_field("name", ".."),
    "name-empty": file_field("name", ""),
    "name-nul": file_field("name", "a\0b"),
    "name-long": file_field("name", "a" * 256),
    "name-of-manifest": file_field("name", MANIFEST),
    "duplicate": rewritten(lambda manifest: manifest["files"].append(manifest["files"][0])),  # type: ignore[attr-defined, index]  # JSON
    "without-files": rewritten(lambda manifest: manifest.pop("files")),
}


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in MANIFESTS.items()])
def test_a_malformed_manifest_is_refused(make_model: Make, change: Callable[[bytes], bytes]) -> None:
    folder = make_model()
    path = folder / MANIFEST
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ArtifactError, match=r"manifest\.json is no valid manifest"):
        verify(folder)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("size_bytes", 1, "bytes, expected 1"),
        ("sha256", "0" * 64, "expected 0000"),
        ("name", "other.json", "is missing|is not in the manifest"),
    ],
)
def test_a_manifest_that_describes_other_files_is_refused(
    make_model: Make, name: str, value: object, reason: str
) -> None:
    folder = make_model()
    path = folder / MANIFEST
    path.write_bytes(file_field(name, value)(path.read_bytes()))
    with pytest.raises(ArtifactError, match=reason):
        verify(folder)


def test_a_manifest_that_was_exchanged_with_the_files_is_found_by_the_recorded_one(make_model: Make) -> None:
    folder = make_model()
    recorded = verify(folder)
    assert check_layout(folder, recorded) == recorded
    flip(FIRST, len(FILES[FIRST]) - 1)(folder)
    (folder / MANIFEST).unlink()
    write_manifest(folder, name="tiny", origin="made here", licence="Apache-2.0")
    verify(folder)  # the folder agrees with itself
    with pytest.raises(ArtifactError, match=rf"{FIRST} is .* but .* in the recorded one"):
        check_layout(folder, recorded)


@pytest.mark.parametrize("name", ["name", "origin", "licence"])
def test_a_manifest_that_says_another_origin_is_found_by_the_recorded_one(make_model: Make, name: str) -> None:
    folder = make_model()
    recorded = read_manifest(folder)
    path = folder / MANIFEST
    path.write_bytes(field(name, "other")(path.read_bytes()))
    with pytest.raises(ArtifactError, match=f"says {name} 'other'"):
        verify(folder, recorded=recorded)


def test_more_files_than_a_model_has_are_not_listed(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pratique.inference.artifacts._files._MAX_ENTRIES", 3)
    with pytest.raises(ArtifactError, match="more than 3 files"):
        verify(make_model())


def test_a_folder_that_was_not_imported_may_hold_folders(make_model: Make) -> None:
    folder = make_model(recorded=False)
    (folder / "lost+found").mkdir()
    check_unrecorded_layout(folder)


def test_a_name_cannot_forge_a_line_of_the_error(make_model: Make) -> None:
    folder = make_model()
    (folder / "a\nerror: all is well\x1b[2J").write_bytes(b"")
    (folder / os.fsdecode(b"\xff")).write_bytes(b"")
    with pytest.raises(ArtifactError) as caught:
        verify(folder)
    assert caught.value.message.isprintable()
