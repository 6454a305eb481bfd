"""Requirements files, read as pip reads them, and held to the rules: pure.

Lines are joined and comments taken away in pip's order, so that nothing is seen here that pip does not see, and the
other way round: a comment in the middle of a continued requirement ends it, and one behind a requirement that ends with
a backslash swallows the next line. What is not known is refused, never skipped: options that pip would take too, and
shortened ones. Variables and declared encodings are refused, since what the file says would then depend on who reads
it. Source: pip's "Requirements File Format", and its `req_file`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pratique.release.lock.interface import Entry, Include, Problem, Read, Rule
from pratique.release.lock.rules import index_fault, judge_hashes
from pratique.release.lock.settings import LockSettings

__all__ = ["read_requirements"]

_COMMENT: Final = re.compile(r"(^|\s+)#.*$")
_VARIABLE: Final = re.compile(r"\$\{[A-Z0-9_]+\}")
_ENCODING: Final = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_VCS: Final = re.compile(r"(?:^|@\s*)(?:git|hg|svn|bzr)\+|(?:^|@\s*)git@", re.IGNORECASE)
_FILE_URL: Final = re.compile(r"(?:^|@\s*)file:", re.IGNORECASE)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PATH: Final = re.compile(r"^(?:[./~\\]|[a-z]:[\\/])|\.(?:whl|tar\.gz|zip|tar\.bz2)(?:\s|$)", re.IGNORECASE)
_HARMLESS: Final = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes"})
_WITH_VALUE: Final = {"-i": "--index-url", "-r": "--requirement", "-c": "--constraint", "-f": "--find-links"}
_EDITABLE: Final = ("-e", "--editable")
_SHOWN: Final = 200


@dataclass(slots=True)
class _Reading:
    """What is found on the way."""

    file: str
    settings: LockSettings
    is_constraint: bool
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    includes: list[Include] = field(default_factory=list)

    def refuse(self, line: int, rule: Rule, message: str) -> None:
        self.problems.append(Problem(self.file, line, rule, message))


def read_requirements(text: str, file: str, settings: LockSettings, *, is_constraint: bool = False) -> Read:
    """Read a requirements file, or one of constraints, whose lines need no hash since nothing is installed by them."""
    reading = _Reading(file, settings, is_constraint)
    for number, line in enumerate(text.splitlines()[:2], start=1):
        declared = _ENCODING.match(line)
        if declared is not None and declared[1].lower().replace("_", "-") not in {"utf-8", "utf8", "ascii"}:
            reading.refuse(number, "malformed", f"declares the encoding '{declared[1][:40]}': expected UTF-8")
    for number, line in _logical_lines(text):
        if _VARIABLE.search(line):
            reading.refuse(number, "malformed", f"depends on the environment: '{line[:_SHOWN]}'")
        elif line.startswith("-"):
            _read_option(reading, number, line)
        else:
            _read_requirement(reading, number, line)
    return Read(tuple(reading.entries), tuple(reading.problems), tuple(reading.includes))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Join continued lines, then take comments away, as pip does; with the number of each one's first line."""
    first, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        is_comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            first = first if parts else number
            parts.append(line.strip("\\"))
            continue
        start = first if parts else number
        joined = _COMMENT.sub("", "".join([*parts, f" {line}" if is_comment else line])).strip()
        parts = []
        if joined:
            yield start, joined
    if parts and (joined := _COMMENT.sub("", "".join(parts)).strip()):
        yield first, joined


def _read_option(reading: _Reading, number: int, line: str) -> None:
    words = _words(line)
    if words is None:
        reading.refuse(number, "malformed", f"is no option: '{line[:_SHOWN]}'")
        return
    while words:
        name, value = _take(words)
        if name in _EDITABLE:
            reading.refuse(number, "editable", f"installs from a folder, '{value[:_SHOWN]}': build a wheel, and pin it")
        elif name in {"--index-url", "--extra-index-url", "--pypi-url"}:
            fault = index_fault(value, reading.settings)
            if fault is not None:
                reading.refuse(number, "unlisted-index", fault)
        elif name == "--find-links":
            reading.refuse(number, "unlisted-index", f"looks for files in '{value[:_SHOWN]}', which is no listed index")
        elif name in {"--requirement", "--constraint"}:
            _include(reading, number, value, is_constraint=name == "--constraint")
        elif name not in _HARMLESS and name not in {"--only-binary", "--no-binary"}:
            reading.refuse(number, "unknown-option", f"has the option '{name[:40]}', which is not allowed in a lock")


def _words(line: str) -> list[str] | None:
    try:
        return shlex.split(line)
    except ValueError:
        return None


def _take(words: list[str]) -> tuple[str, str]:
    """Take one option off the words, with its value where it has one, in any of pip's spellings."""
    word = words.pop(0)
    if word.startswith("--"):
        name, sign, value = word.partition("=")
    elif word[:2] in _WITH_VALUE or word[:2] in _EDITABLE:
        name, sign, value = word[:2], word[2:], word[2:].removeprefix("=")
    else:
        return word, ""
    name = _WITH_VALUE.get(name, name)
    if not sign and name not in _HARMLESS and words:
        value = words.pop(0)
    return name, value


def _include(reading: _Reading, number: int, path: str, *, is_constraint: bool) -> None:
    if _URL.match(path) or path.lower().startswith("file:") or not path:
        reading.refuse(number, "include", f"includes '{path[:_SHOWN]}': expected a file beside it")
        return
    reading.includes.append(Include(number, path, is_constraint))


def _read_requirement(reading: _Reading, number: int, line: str) -> None:
    words = line.split(" ")
    start = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    text, options = " ".join(words[:start]).strip(), " ".join(words[start:])
    entry = _entry(reading, number, text)
    hashes = _hashes(reading, number, options)
    if entry is None or hashes is None:
        return
    named = f"{entry.name}=={entry.version}"
    fault = judge_hashes(hashes)
    if fault is not None and not (reading.is_constraint and not hashes):
        reading.refuse(number, fault[0], f"{named} {fault[1]}")
        return
    pairs = frozenset(f"{algorithm.lower()}:{digits.lower()}" for algorithm, digits in hashes)
    reading.entries.append(
        Entry(entry.file, number, entry.name, entry.version, entry.marker, pairs, reading.is_constraint)
    )


def _hashes(reading: _Reading, number: int, options: str) -> list[tuple[str, str]] | None:
    """Return the hashes among a requirement's options; None: one of them is something else, which is told."""
    words = _words(options)
    if words is None:
        reading.refuse(number, "malformed", f"is no option: '{options[:_SHOWN]}'")
        return None
    found = []
    while words:
        name, value = _take(words)
        if name != "--hash":
            reading.refuse(number, "unknown-option", f"has '{name[:40]}' at a requirement, where only --hash may stand")
            return None
        algorithm, _, digits = value.partition(":")
        found.append((algorithm, digits))
    return found


def _entry(reading: _Reading, number: int, text: str) -> Entry | None:
    fault = _elsewhere(text)
    if fault is not None:
        reading.refuse(number, fault, f"'{text[:_SHOWN]}' is no name with a version: build a wheel, and pin it")
        return None
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reading.refuse(number, "malformed", f"'{text[:_SHOWN]}' is no requirement: {str(error).splitlines()[0]}")
        return None
    version = _exact(requirement)
    if version is None:
        reading.refuse(number, "floating-version", f"'{text[:_SHOWN]}' names no one version: expected NAME==VERSION")
        return None
    marker = str(requirement.marker or "")
    return Entry(reading.file, number, canonicalize_name(requirement.name), version, marker)


def _elsewhere(text: str) -> Rule | None:
    """Say which rule a requirement breaks that does not come from an index."""
    if _VCS.search(text):
        return "vcs"
    place = text.partition(";")[0].strip()
    if _FILE_URL.search(place):
        return "local-path"
    if _URL.search(place):
        return "direct-url"
    # pip takes a word with a slash in it for a path.
    return "local-path" if _PATH.search(place) or "/" in place.partition("[")[0] else None


def _exact(requirement: Requirement) -> str | None:
    specifiers = list(requirement.specifier)
    if requirement.url is not None or len(specifiers) != 1 or specifiers[0].operator not in {"==", "==="}:
        return None
    try:
        return str(Version(specifiers[0].version))
    except InvalidVersion:  # "1.*", and what only === can name
        return None
