"""The file system that layers add up to, and what of them nobody can see any more. Pure.

Follows what engines do when they unpack: a whiteout hides one path, an opaque one all that lower layers have in its
folder, a later entry replaces an earlier one, folders on the way may be links. Bytes count as wasted when the last
name of a file goes. Source: OCI image specification, "Image Layer Filesystem Changeset".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pratique.release.build.layertar import Entry, Kind
from pratique.release.errors import EvidenceError

__all__ = ["FileTree", "Inode", "Wasted"]

_CAPABILITIES: Final = "SCHILY.xattr.security.capability"
_MAX_LINKS: Final = 40
"""As many as Linux follows on the way to a file."""


@dataclass(slots=True)
class Inode:
    """A file, whatever it is called."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    size: int
    link: str
    layer: int
    """Where it was written; layers count from 1."""
    has_capabilities: bool = False
    """Of its own, whoever starts it: capabilities(7), "File capabilities"."""
    num_names: int = 1


@dataclass(frozen=True, slots=True)
class Wasted:
    """A file that no longer has a name."""

    path: str
    size: int
    written_in: int
    gone_in: int


class FileTree:
    """What is there after the layers that were added."""

    def __init__(self) -> None:
        self._nodes: dict[str, Inode] = {}
        self._children: dict[str, set[str]] = {"": set()}
        self._layer = 0
        self.wasted: list[Wasted] = []

    def begin_layer(self) -> None:
        """Go on to the next layer."""
        self._layer += 1

    def add(self, entry: Entry) -> None:
        """Take an entry of the layer.

        Raises:
            EvidenceError: it goes through a circle of links, is a hard link to nothing, or hides what this layer has
                written.
        """
        path = self._place_of(entry.path)
        if entry.is_opaque:
            self._hide_lower(path.rpartition("/")[0])
        elif (hidden := entry.removes) is not None:
            self._remove(self._place_of(hidden), is_whiteout=True)
        elif entry.kind == "hardlink":
            self._add_name(path, self._place_of(entry.link))
        elif path:
            self._write(path, entry)

    def live(self) -> Iterator[tuple[str, Inode]]:
        """Go through what is there, by path."""
        for path in sorted(self._nodes):
            yield path, self._nodes[path]

    def has(self, path: str) -> bool:
        """Whether there is something under a path, links on the way followed."""
        return self._place_of(path) in self._nodes

    @property
    def wasted_bytes(self) -> int:
        """All that was written and is gone."""
        return sum(one.size for one in self.wasted)

    def _place_of(self, path: str) -> str:
        """Follow links on the way to a path, as an engine does inside the image's root; not the path itself."""
        *folders, name = path.split("/")
        place, todo, num_links = "", folders[::-1], 0
        while todo:
            part = todo.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                place = place.rpartition("/")[0]
                continue
            step = f"{place}/{part}" if place else part
            node = self._nodes.get(step)
            if node is None or node.kind != "symlink":
                place = step
                continue
            num_links += 1
            if num_links > _MAX_LINKS:
                raise EvidenceError(f"a layer has an entry behind a circle of links: '{path[:200]}'")
            if node.link.startswith("/"):
                place = ""
            todo += node.link.split("/")[::-1]
        return f"{place}/{name}" if place else name

    def _write(self, path: str, entry: Entry) -> None:
        before = self._nodes.get(path)
        if before is not None and not (before.kind == "directory" and entry.kind == "directory"):
            self._remove(path)
        has_capabilities = any(name == _CAPABILITIES for name, _ in entry.extra)
        inode = Inode(entry.kind, entry.mode, entry.owner, entry.size, entry.link, self._layer, has_capabilities)
        self._name(path, inode)

    def _add_name(self, path: str, target: str) -> None:
        inode = self._nodes.get(target)
        if inode is None or inode.kind == "directory":
            raise EvidenceError(f"a layer has a hard link to nothing: '{path[:200]}' to '{target[:200]}'")
        if path != target:
            inode.num_names += 1
            self._remove(path)
            self._name(path, inode)

    def _name(self, path: str, inode: Inode) -> None:
        self._nodes[path] = inode
        if inode.kind == "directory":
            self._children.setdefault(path, set())
        # Folders that no entry names are there all the same, once something is in them.
        while path:
            parent = path.rpartition("/")[0]
            known = self._children.setdefault(parent, set())
            if path in known:
                return
            known.add(path)
            path = parent

    def _remove(self, path: str, *, is_whiteout: bool = False) -> None:
        todo = [path]
        while todo:
            one = todo.pop()
            todo += self._children.pop(one, ())
            inode = self._nodes.pop(one, None)
            if inode is not None:
                if is_whiteout and inode.layer == self._layer:
                    # By the specification it stays; some engines remove it, others refuse the layer.
                    raise EvidenceError(f"a layer has a whiteout of what it has written itself: '{one[:200]}'")
                inode.num_names -= 1
                if not inode.num_names and inode.size:
                    self.wasted.append(Wasted(one, inode.size, inode.layer, self._layer))
        self._children.get(path.rpartition("/")[0], set()).discard(path)
        self._children.setdefault("", set())

    def _hide_lower(self, folder: str) -> None:
        """Remove what lower layers have in a folder; what this layer has put there already stays."""
        todo = list(self._children.get(folder, ()))
        while todo:
            path = todo.pop()
            inode = self._nodes.get(path)
            if inode is not None and inode.layer == self._layer:
                todo += self._children.get(path, ())
            else:
                self._remove(path, is_whiteout=True)
