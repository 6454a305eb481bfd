"""Why two images are not the same: which layer, which file, and what of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from pratique.release.build.layertar import Entry, LayerLimits, read_entries
from pratique.release.build.layout import Layer, LayoutImage
from pratique.release.decoding import decode_json

__all__ = ["Difference", "Facts", "differences_of", "differences_of_entries"]

What = Literal["content", "mode", "owner", "mtime", "kind", "link", "attributes", "order", "only in one", "value"]
MAX_DIFFERENCES: Final = 1000
_CHUNK: Final = 1024 * 1024
_SHOWN: Final = 120


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs."""

    where: str
    """`layer 3` (from 1, as history counts those that are not empty), `config`, or `manifest`."""
    path: str
    """Of a file in the layer, or of a member of the configuration."""
    what: What
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.where}: {self.path or '(all of it)'}: {self.what}: {self.first} ≠ {self.second}"


@dataclass(frozen=True, slots=True)
class Facts:
    """An entry with its content's digest in the place of its content."""

    entry: Entry
    content: str


def differences_of(first: LayoutImage, second: LayoutImage) -> tuple[Difference, ...]:
    """Compare two images; none differs where the manifests are the same. At most MAX_DIFFERENCES are told.

    Raises:
        EvidenceError: a layer cannot be read.
    """
    if first.manifest == second.manifest:
        return ()
    found: list[Difference] = []
    for one in _all(first, second):
        found.append(one)
        if len(found) == MAX_DIFFERENCES:
            break
    return tuple(found)


def _all(first: LayoutImage, second: LayoutImage) -> Iterator[Difference]:
    yield from _in_json("config", "", decode_json(first.config, object), decode_json(second.config, object))
    for number, (a, b) in enumerate(zip(first.layers, second.layers, strict=False), start=1):
        where = f"layer {number}"
        if a.diff_id != b.diff_id:
            yield from differences_of_entries(where, _facts(first, a), _facts(second, b))
        elif a.digest != b.digest:
            yield Difference(where, "", "content", f"compressed as {a.digest}", f"compressed as {b.digest}")
    if len(first.layers) != len(second.layers):
        yield Difference("manifest", "layers", "value", str(len(first.layers)), str(len(second.layers)))
    if first.config == second.config and first.layers == second.layers:
        yield from _in_json("manifest", "", decode_json(first.manifest, object), decode_json(second.manifest, object))


def _facts(image: LayoutImage, layer: Layer) -> list[Facts]:
    with image.open_layer(layer) as stream:
        return [Facts(entry, _hash(entry)) for entry in read_entries(stream, LayerLimits())]


def _hash(entry: Entry) -> str:
    if entry.content is None:
        return ""
    content = hashlib.sha256()
    while chunk := entry.content.read(_CHUNK):
        content.update(chunk)
    return content.hexdigest()


def differences_of_entries(where: str, first: list[Facts], second: list[Facts]) -> Iterator[Difference]:
    """Compare the entries of one layer in two builds. Pure."""
    ours = {facts.entry.path: facts for facts in first}
    theirs = {facts.entry.path: facts for facts in second}
    for path in sorted(ours.keys() | theirs.keys()):
        if path not in theirs:
            yield Difference(where, path, "only in one", "there", "missing")
        elif path not in ours:
            yield Difference(where, path, "only in one", "missing", "there")
        else:
            yield from _of_file(where, path, ours[path], theirs[path])
    if ours.keys() == theirs.keys():
        yield from _of_order(where, first, second)


def _of_file(where: str, path: str, first: Facts, second: Facts) -> Iterator[Difference]:
    a, b = first.entry, second.entry
    if a.kind != b.kind:
        yield Difference(where, path, "kind", a.kind, b.kind)
        return
    if first.content != second.content:
        told = (f"{facts.entry.size} bytes, sha256:{facts.content[:12]}…" for facts in (first, second))
        yield Difference(where, path, "content", *told)
    if a.mode != b.mode:
        yield Difference(where, path, "mode", f"{a.mode:04o}", f"{b.mode:04o}")
    if a.owner != b.owner:
        yield Difference(where, path, "owner", "{}:{}".format(*a.owner), "{}:{}".format(*b.owner))
    if a.mtime != b.mtime:
        yield Difference(where, path, "mtime", f"{a.mtime:.9g}", f"{b.mtime:.9g}")
    if a.link != b.link:
        yield Difference(where, path, "link", a.link, b.link)
    if a.extra != b.extra:
        yield Difference(where, path, "attributes", str(a.extra)[:_SHOWN], str(b.extra)[:_SHOWN])


def _of_order(where: str, first: list[Facts], second: list[Facts]) -> Iterator[Difference]:
    for a, b in zip(first, second, strict=False):
        if a.entry.path != b.entry.path:
            yield Difference(where, a.entry.path, "order", a.entry.path, b.entry.path)
            return
    if len(first) != len(second):
        yield Difference(where, "", "order", f"{len(first)} entries", f"{len(second)} entries")


def _in_json(where: str, path: str, first: Any, second: Any) -> Iterator[Difference]:  # noqa: ANN401 - any JSON
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted(first.keys() | second.keys()):
            yield from _in_json(where, f"{path}.{name}".lstrip("."), first.get(name), second.get(name))
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for at, (a, b) in enumerate(zip(first, second, strict=True)):
            yield from _in_json(where, f"{path}[{at}]", a, b)
    elif first != second:
        yield Difference(where, path, "value", str(first)[:_SHOWN], str(second)[:_SHOWN])
