"""Which packages an image has by its own books: dpkg's status and the metadata of Python distributions.

This is what a bill of materials is held against. The books are read from the layers as they lie over one another,
whatever a tool says it found. Source: dpkg(1) status file, deb822(5); Python core metadata; OCI layer whiteouts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pratique.release.advisories.records import package_name
from pratique.release.build.layertar import Entry, LayerLimits, read_entries
from pratique.release.build.layout import LayoutImage
from pratique.release.components import Component
from pratique.release.errors import EvidenceError

__all__ = ["Installed", "Overlay", "installed_in", "missing_from", "packages_of"]

MAX_BOOK_BYTES: Final = 64 * 1024 * 1024
_MAX_BOOKS: Final = 20_000
_STATUS: Final = "var/lib/dpkg/status"
_STATUS_FOLDER: Final = re.compile(r"var/lib/dpkg/status\.d/(?!.*\.md5sums\Z)[^/]+")
_METADATA: Final = re.compile(r"(.*/)?[^/]+\.(dist-info/METADATA|egg-info/PKG-INFO)")


@dataclass(frozen=True, slots=True, order=True)
class Installed:
    """A package that is there."""

    type: str
    """As in a package URL: "deb" or "pypi"."""
    name: str
    version: str

    def __str__(self) -> str:
        return f"pkg:{self.type}/{self.name}@{self.version}"


class Overlay:
    """Files of interest, as they lie after so many layers."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self.files: dict[str, bytes] = {}
        self.linked: dict[str, list[str]] = {}
        """Books of the last layer that are hard links: the file that has their content, and their paths."""

    def add_layer(self, entries: Iterable[Entry]) -> None:
        """Lay one more over the others. What it removes are files of layers below, not its own.

        Raises:
            EvidenceError: a book is larger than what is read, or there are too many.
        """
        added: dict[str, bytes] = {}
        self.linked = {}
        for entry in entries:
            if entry.is_opaque:
                self._remove_below(entry.parent)
                continue
            if entry.removes is not None:
                self._remove(entry.removes)
                continue
            if entry.kind != "directory":
                self._remove(entry.path)
                added.pop(entry.path, None)
            if entry.kind == "hardlink" and self._wanted(entry.path):
                self.linked.setdefault(entry.link, []).append(entry.path)
            if entry.kind == "file" and self._wanted(entry.path):
                added[entry.path] = _content(entry)
            if len(added) + len(self.files) > _MAX_BOOKS:
                raise EvidenceError(f"the image has more than {_MAX_BOOKS} records of packages")
        self.files.update(added)

    def add_linked(self, entries: Iterable[Entry]) -> None:
        """Go through the last layer again, and read what its hard links name.

        Raises:
            EvidenceError: it is not in that layer.
        """
        found: dict[str, bytes] = {
            entry.path: _content(entry) for entry in entries if entry.kind == "file" and entry.path in self.linked
        }
        for target, paths in self.linked.items():
            if target not in found:
                raise EvidenceError(f"/{paths[0]} is a link to /{target}, which is not in its layer")
            self.files.update(dict.fromkeys(paths, found[target]))

    def _remove(self, path: str) -> None:
        self.files.pop(path, None)
        self._remove_below(path)

    def _remove_below(self, folder: str) -> None:
        prefix = f"{folder}/" if folder else ""
        for one in [path for path in self.files if path.startswith(prefix)]:
            del self.files[one]


def packages_of(image: LayoutImage) -> frozenset[Installed]:
    """Read all layers of an image, and return which packages it has.

    Raises:
        EvidenceError: a layer or a book cannot be read.
    """
    overlay, limits = Overlay(_is_book), LayerLimits()
    for layer in image.layers:
        with image.open_layer(layer) as stream:
            overlay.add_layer(read_entries(stream, limits))
        if overlay.linked:
            with image.open_layer(layer) as stream:
                overlay.add_linked(read_entries(stream, LayerLimits()))
    return installed_in(overlay.files)


def installed_in(files: Mapping[str, bytes]) -> frozenset[Installed]:
    """Return the packages that some books name.

    Raises:
        EvidenceError: a book does not say which package it is about.
    """
    found: set[Installed] = set()
    for path, content in files.items():
        text = content.decode("utf-8", "replace")
        if _METADATA.fullmatch(path):
            found.add(_distribution(path, text))
        else:
            found.update(_debian(path, text))
    return frozenset(found)


def missing_from(components: Iterable[Component], packages: Iterable[Installed]) -> tuple[Installed, ...]:
    """Return the packages that a bill of materials leaves out, in order."""
    named = {(one.purl.type, _plain(one.purl.type, one.purl.name), one.purl.version) for one in components}
    return tuple(sorted(one for one in packages if (one.type, one.name, one.version) not in named))


def _is_book(path: str) -> bool:
    return path == _STATUS or bool(_STATUS_FOLDER.fullmatch(path) or _METADATA.fullmatch(path))


def _content(entry: Entry) -> bytes:
    if entry.size > MAX_BOOK_BYTES:
        raise EvidenceError(f"/{entry.path} has {entry.size} bytes, at most {MAX_BOOK_BYTES} are read")
    return entry.content.read() if entry.content else b""


def _distribution(path: str, text: str) -> Installed:
    fields = _fields(text.partition("\n\n")[0])
    if not (fields.get("name") and fields.get("version")):
        raise EvidenceError(f"/{path} does not say which distribution it is about: it has no Name or no Version")
    return Installed("pypi", _plain("pypi", fields["name"]), fields["version"])


def _debian(path: str, text: str) -> Iterator[Installed]:
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields = _fields(paragraph)
        if not fields:
            continue
        if "status" in fields and fields["status"].split()[-1:] != ["installed"]:
            continue  # removed, with its configuration left; or half installed, and so not there
        if not (fields.get("package") and fields.get("version")):
            raise EvidenceError(f"/{path} has a paragraph without Package or Version: {paragraph[:100]!r}")
        yield Installed("deb", fields["package"], fields["version"])


def _fields(paragraph: str) -> dict[str, str]:
    """Read `Name: value` lines; continued lines are left out, none is asked for."""
    found: dict[str, str] = {}
    for line in paragraph.splitlines():
        name, colon, value = line.partition(":")
        if colon and name and not name[0].isspace():
            found.setdefault(name.lower(), value.strip())
    return found


def _plain(kind: str, name: str) -> str:
    return package_name("PyPI", name) if kind == "pypi" else name
