"""A Dockerfile, parsed: stages and instructions with their lines. Decides nothing and reads no file.

Covers what the rules of governed builds look at: parser directives, comments, continuations, here-documents, `ARG`
before the first `FROM` and its expansion, flags. Everything else of an instruction stays text.
Source: Dockerfile reference (docs.docker.com/reference/dockerfile).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pratique.release.build.errors import DockerfileRefusedError

__all__ = ["Dockerfile", "Instruction", "Stage", "copied_from", "expand", "parse_dockerfile"]

MAX_DOCKERFILE_BYTES: Final = 1024 * 1024
_DIRECTIVE: Final = re.compile(r"#[ \t]*([A-Za-z]+)[ \t]*=[ \t]*(.+?)[ \t]*")
_HEREDOC: Final = re.compile(r"<<(-?)[ \t]*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
_FLAG: Final = re.compile(r"--([a-z-]+)(?:=(\S*))?(?:\s+|\Z)")
_FROM: Final = re.compile(r"(\S+)(?:\s+[Aa][Ss]\s+(\S+))?\s*")
_STAGE_NAME: Final = re.compile(r"[a-z][a-z0-9._-]*")
_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+])([^{}]*))?\})")
_MOUNT_FROM: Final = re.compile(r"(?:^|,)from=([^,]+)")
_WITH_HEREDOCS: Final = frozenset({"RUN", "COPY", "ADD"})


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `line` is its first, counted from 1."""

    line: int
    keyword: str
    """In capitals."""
    flags: tuple[tuple[str, str], ...]
    """`--name=value`, in their order; of a flag without a value, the empty text."""
    text: str
    """What follows the flags, continuations joined."""
    raw: str
    """The lines as they stand, with their ends: comments inside and here-documents included."""

    def values(self, flag: str) -> tuple[str, ...]:
        """Return what a flag was given, each time."""
        return tuple(value for name, value in self.flags if name == flag)


@dataclass(frozen=True, slots=True)
class Stage:
    """A build stage, from its `FROM` to the next."""

    index: int
    name: str
    """In small letters, as builders compare them; empty where it has none."""
    base: str
    """As it stands behind `FROM`, variables unexpanded."""
    line: int
    instructions: tuple[Instruction, ...]
    """Without the `FROM`."""
    raw: str
    """The lines of the `FROM`."""


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole Dockerfile."""

    directives: Mapping[str, str]
    arguments: tuple[tuple[int, str, str | None], ...]
    """Of the `ARG`s before the first stage: line, name, default."""
    stages: tuple[Stage, ...]
    head: str
    """Everything before the first `FROM`, as it stands."""

    def needed_for(self, target: str) -> tuple[Stage, ...]:
        """Return the stages that one is built from, itself the last, each after what it needs."""
        wanted = self.stage(target)
        needed = {wanted.index} if wanted is not None else set()
        for stage in reversed(self.stages):
            if stage.index in needed:
                named = (stage.base, *(name for one in stage.instructions for name in copied_from(one)))
                others = (self.stage(name) for name in named)
                needed |= {other.index for other in others if other is not None and other.index < stage.index}
        return tuple(self.stages[index] for index in sorted(needed))

    def stage(self, name: str) -> Stage | None:
        """Return the stage of a name, or of a number as `--from=0` has it; the last one of a name counts."""
        if name.isdigit():
            return self.stages[int(name)] if int(name) < len(self.stages) else None
        return next((stage for stage in reversed(self.stages) if stage.name == name.lower()), None)


def copied_from(instruction: Instruction) -> tuple[str, ...]:
    """Return what an instruction copies from or mounts: stages, folders that are given, images."""
    mounted = (found[1] for mount in instruction.values("mount") if (found := _MOUNT_FROM.search(mount)))
    return (*instruction.values("from"), *mounted)


def parse_dockerfile(text: str) -> Dockerfile:
    """Parse a Dockerfile.

    Raises:
        DockerfileRefusedError: it is none, or too large; the message says at which line.
    """
    if len(text) > MAX_DOCKERFILE_BYTES:
        raise DockerfileRefusedError(f"a Dockerfile of {len(text)} characters; at most {MAX_DOCKERFILE_BYTES} are read")
    lines = text.splitlines(keepends=True)
    directives = _directives(lines)
    escape = directives.get("escape", "\\")
    if escape not in {"\\", "`"}:
        raise DockerfileRefusedError(f"the directive escape must be \\ or `, got '{escape[:10]}'")
    found = list(_instructions(lines, escape))
    starts = [at for at, one in enumerate(found) if one.keyword == "FROM"]
    if not starts:
        raise DockerfileRefusedError("the Dockerfile has no FROM: there is nothing to build")
    head, ends = found[: starts[0]], [*starts[1:], len(found)]
    stages = [_stage(index, found[a:b]) for index, (a, b) in enumerate(zip(starts, ends, strict=True))]
    before = "".join(lines[: found[starts[0]].line - 1])
    return Dockerfile(directives, tuple(_arguments(head)), tuple(stages), before)


def _directives(lines: list[str]) -> dict[str, str]:
    """Read the comments at the very top that are none."""
    directives: dict[str, str] = {}
    for line in lines:
        found = _DIRECTIVE.fullmatch(line.rstrip("\r\n"))
        if found is None:
            break
        directives.setdefault(found[1].lower(), found[2])
    return directives


def _instructions(lines: list[str], escape: str) -> Iterator[Instruction]:
    at = 0
    while at < len(lines):
        if not (stripped := lines[at].strip()) or stripped.startswith("#"):
            at += 1
            continue
        start = at
        parts: list[str] = []
        is_going_on = True
        while is_going_on and at < len(lines):
            line = lines[at].rstrip("\r\n")
            at += 1
            if parts and (not line.strip() or line.lstrip().startswith("#")):
                continue  # a comment or an empty line inside a continuation belongs to nothing
            trimmed = line.rstrip(" \t")
            is_going_on = trimmed.endswith(escape)
            parts.append(trimmed[:-1] if is_going_on else line)
        keyword, _, rest = "".join(parts).strip().partition(" ")
        if keyword.upper() in _WITH_HEREDOCS:
            at = _end_of_heredocs(lines, at, rest, start)
        yield _instruction(start + 1, keyword.upper(), rest.strip(), "".join(lines[start:at]))


def _end_of_heredocs(lines: list[str], at: int, text: str, start: int) -> int:
    for dash, _, word in _HEREDOC.findall(text):
        while at < len(lines) and (lines[at].lstrip("\t") if dash else lines[at]).rstrip("\r\n") != word:
            at += 1
        if at == len(lines):
            raise DockerfileRefusedError(f"line {start + 1}: the here-document '{word}' does not end")
        at += 1
    return at


def _instruction(line: int, keyword: str, text: str, raw: str) -> Instruction:
    flags: list[tuple[str, str]] = []
    while found := _FLAG.match(text):
        flags.append((found[1], found[2] or ""))
        text = text[found.end() :]
    return Instruction(line, keyword, tuple(flags), text, raw)


def _arguments(head: list[Instruction]) -> Iterator[tuple[int, str, str | None]]:
    for one in head:
        if one.keyword != "ARG":
            raise DockerfileRefusedError(f"line {one.line}: only ARG may stand before FROM, got {one.keyword[:40]}")
        for word in one.text.split():
            name, has_default, default = word.partition("=")
            yield one.line, name, default.strip("\"'") if has_default else None


def _stage(index: int, instructions: list[Instruction]) -> Stage:
    first, *rest = instructions
    found = _FROM.fullmatch(first.text)
    if found is None:
        raise DockerfileRefusedError(f"line {first.line}: expected FROM image [AS name], got 'FROM {first.text[:100]}'")
    name = (found[2] or "").lower()
    if name and not _STAGE_NAME.fullmatch(name):
        raise DockerfileRefusedError(f"line {first.line}: '{name[:100]}' is no name for a stage")
    return Stage(index, name, found[1], first.line, tuple(rest), first.raw)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put values in the place of `$name`, `${name}`, `${name:-default}` and `${name:+other}`; unset ones are empty."""

    def value_of(found: re.Match[str]) -> str:
        value = values.get(found[1] or found[2], "")
        operator, word = found[3] or "", found[4] or ""
        is_given = bool(value) if ":" in operator else (found[1] or found[2]) in values
        if operator.endswith("-"):
            return value if is_given else word
        if operator.endswith("+"):
            return word if is_given else ""
        return value

    return _VARIABLE.sub(value_of, text)
