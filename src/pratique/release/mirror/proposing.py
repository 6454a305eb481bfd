"""Proposes entries of the approved file from what a lock already names: where a team starts, and how it goes on. Pure.

What a person has to say is left empty where it is not given: the file is refused until somebody has said it. A lock's
hash is the word that counts: of what an index offers, only files with that hash are proposed.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from pratique.release.decoding import decode_toml
from pratique.release.lock.interface import Entry
from pratique.release.lock.toml import lines_of
from pratique.release.mirror.approved import Approved, version_of_file
from pratique.release.mirror.errors import ApprovedFileError
from pratique.release.mirror.interface import IndexFile
from pratique.release.mirror.licences import is_licence
from pratique.release.values import Digest

__all__ = ["EMPTY", "Proposal", "Reviewer", "files_of", "insert", "narrow", "render"]

EMPTY: Final = """\
schema = 1

[names]
private = []  # ours: never fetched from the upstream
popular = []  # what others may want to be taken for
"""
_NEVER: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Reviewer:
    """What the people say who answer for it; empty: they have yet to."""

    approved_by: str
    approved_on: dt.date
    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A version that a lock names, and that is not approved."""

    name: str
    version: str
    files: Mapping[str, Digest]
    licence: str
    """As the project states it; empty: it states none in one line."""


def files_of(entry: Entry, offered: Iterable[IndexFile]) -> tuple[IndexFile, ...]:
    """Return the offered files that a lock's entry pins."""
    named = (entry.name, str(Version(entry.version)))
    hashes = {f"sha256:{one.partition(':')[2]}" for one in entry.hashes if one.startswith("sha256:")}
    pinned = (one for one in offered if one.digest in hashes and version_of_file(one.filename) == named)
    return tuple(sorted(pinned, key=lambda one: one.filename))


def narrow(files: Iterable[IndexFile], tags: Iterable[Tag]) -> tuple[IndexFile, ...]:
    """Return the one file that an installer takes where it can install these tags, best first: a wheel, else a source.

    Nothing where none fits.
    """
    order = {tag: number for number, tag in enumerate(tags)}
    ranked = sorted((rank, one.filename, one) for one in files if (rank := _rank(one.filename, order)) is not None)
    return tuple(one for _, _, one in ranked[:1])


def _rank(filename: str, order: Mapping[Tag, int]) -> int | None:
    if not filename.endswith(".whl"):
        return len(order)
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return None
    return min((order[tag] for tag in tags if tag in order), default=None)


def render(proposal: Proposal, reviewer: Reviewer, approved: Approved) -> str:
    """Return the entry as TOML: a whole package, or one more version of a package that is there."""
    return "\n".join(_lines(proposal, reviewer, is_new=proposal.name not in approved.packages)) + "\n"


def _lines(proposal: Proposal, reviewer: Reviewer, *, is_new: bool) -> Iterator[str]:
    if is_new:
        is_told = is_licence(proposal.licence)
        said = f"  # the project says: {_NEVER.sub(' ', proposal.licence)[:100] or 'nothing in one line'}"
        yield "[[package]]"
        yield f"name = {_quoted(proposal.name)}"
        yield f"licence = {_quoted(proposal.licence)}" if is_told else f'licence = ""{said}'
        yield f"approved_by = {_quoted(reviewer.approved_by)}"
        yield f"approved_on = {reviewer.approved_on.isoformat()}"
        yield f"reason = {_quoted(reviewer.reason)}"
        yield ""
    yield "[[package.version]]"
    yield f"version = {_quoted(proposal.version)}"
    files = [f"{_quoted(name)} = {_quoted(digest)}" for name, digest in proposal.files.items()]
    if len(files) == 1:
        yield f"files = {{ {files[0]} }}"
        return
    yield "[package.version.files]"
    yield from files


def insert(text: str, blocks: Iterable[tuple[str, str]]) -> str:
    """Return an approved file with more entries: versions below their package, new packages at the end.

    Args:
        text: the file as it is, comments and all; `EMPTY` where there is none.
        blocks: names of projects, each with what `render` says of it.

    Raises:
        ApprovedFileError: where a package of the file ends cannot be told, since it is written in another form.
    """
    for name, block in blocks:
        lines = text.splitlines(keepends=True)
        at = _end_of(name, text, lines)
        before, after = "".join(lines[:at]).rstrip("\n"), "".join(lines[at:])
        text = f"{before}\n\n{block}" + (f"\n{after}" if after else "")
    return text


def _end_of(name: str, text: str, lines: list[str]) -> int:
    """Return behind how many lines a package ends, without the comments that belong to the next one."""
    names = [str(one["name"]) for one in decode_toml(text).get("package", [])]
    if name not in names[:-1]:
        return len(lines)
    at = lines_of(text, "package", len(names))[names.index(name) + 1] - 1
    if at < 0:
        raise ApprovedFileError(f"{name}: the file does not show where it ends: add its version by hand")
    while lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return at


def _quoted(text: str) -> str:
    return '"' + _NEVER.sub(" ", text).replace("\\", "\\\\").replace('"', '\\"') + '"'
