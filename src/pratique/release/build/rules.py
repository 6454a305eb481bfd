"""What a Dockerfile must keep to be built here: pure; says every place that breaks a rule, with its line.

1. Whatever comes from outside is named by digest: bases, images copied from, files added, the frontend itself.
2. Network only in the stages that are named for it, which come first: they build on nothing that was made without.
3. Secrets are mounted, never arguments or variables: both stay in the image's history.
4. There is a stage with the tests, and one to ship; neither has network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pratique.release.build.dockerfile import Dockerfile, Instruction, Stage, copied_from, expand
from pratique.release.build.errors import DockerfileRefusedError

__all__ = [
    "BuildRules",
    "Problem",
    "external_images",
    "find_problems",
    "is_by_digest",
    "is_secret_name",
    "require_rules",
]

KEYWORDS: Final = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD"}
    | {"RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
_BY_DIGEST: Final = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}", re.ASCII)
_REMOTE: Final = re.compile(r"(?:https?|ftp|git|ssh)://|git@|github\.com/")
_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase)|pwd|secret|token|credentials?|api_?key|private_?key|access_?key)(?:_|$)",
    re.IGNORECASE,
)
_WHERE_IT_LIES: Final = ("_FILE", "_PATH", "_DIR", "_ARN", "_NAME", "_ID", "_URL")
_ASSIGNED: Final = re.compile(r"(?:^|\s)([A-Za-z_]\w*)=")


@dataclass(frozen=True, slots=True)
class BuildRules:
    """What the caller wants built, as far as the rules ask."""

    target: str
    test_stage: str
    network_stages: tuple[str, ...]
    contexts: frozenset[str] = frozenset()
    """Folders that are given by name; a Dockerfile may copy from them."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A place that breaks a rule."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


def is_by_digest(reference: str) -> bool:
    """Whether an image is named by digest; a tag beside it decides nothing."""
    return _BY_DIGEST.fullmatch(reference) is not None


def is_secret_name(name: str) -> bool:
    """Whether a variable is named like a secret; one that says where a secret lies is none."""
    return _SECRET_NAME.search(name) is not None and not name.upper().endswith(_WHERE_IT_LIES)


def require_rules(dockerfile: Dockerfile, rules: BuildRules, arguments: Mapping[str, str]) -> None:
    """Raise where a rule is broken.

    Raises:
        DockerfileRefusedError: with every place.
    """
    problems = find_problems(dockerfile, rules, arguments)
    if problems:
        raise DockerfileRefusedError(
            "the Dockerfile is refused:\n" + "\n".join(f"  {problem}" for problem in problems),
            hint="docs/release/build.md says what each rule is for.",
        )


def find_problems(dockerfile: Dockerfile, rules: BuildRules, arguments: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return every place that breaks a rule, in the order of lines. `arguments` are the build arguments given."""
    values = _values(dockerfile, arguments)
    found = [*_in_whole(dockerfile, rules)]
    found += _in_arguments(dockerfile)
    for stage in dockerfile.stages:
        found += _in_base(dockerfile, stage, values)
        for instruction in stage.instructions:
            found += _in_instruction(instruction)
            found += _in_sources(dockerfile, stage, instruction, rules)
            found += _in_network(instruction, has_network=stage.name in rules.network_stages)
        if stage.name in rules.network_stages:
            found += _after_the_step(dockerfile, stage, rules)
    return tuple(sorted(set(found)))


def external_images(dockerfile: Dockerfile, rules: BuildRules, arguments: Mapping[str, str]) -> tuple[str, ...]:
    """Return the images from outside that a Dockerfile which keeps the rules builds on, each once."""
    values = _values(dockerfile, arguments)
    named = [expand(stage.base, values) for stage in dockerfile.stages]
    named += [
        source
        for stage in dockerfile.stages
        for instruction in stage.instructions
        for source in copied_from(instruction)
        if source not in rules.contexts
    ]
    return tuple(dict.fromkeys(name for name in named if is_by_digest(name)))


def _values(dockerfile: Dockerfile, arguments: Mapping[str, str]) -> dict[str, str]:
    """Return what `FROM` sees: given arguments over defaults, of those that are declared before the first stage."""
    values: dict[str, str] = {}
    for _, name, default in dockerfile.arguments:
        given = arguments.get(name, None if default is None else expand(default, values))
        if given is not None:
            values[name] = given
    return values


def _in_whole(dockerfile: Dockerfile, rules: BuildRules) -> Iterator[Problem]:
    frontend = dockerfile.directives.get("syntax")
    if frontend is not None and not is_by_digest(frontend):
        yield Problem(1, f"the frontend '{frontend[:100]}' is a program that runs: name it by digest, or leave it out")
    for role, name in (("tests", rules.test_stage), ("image to ship", rules.target)):
        if dockerfile.stage(name) is None:
            yield Problem(0, f"there is no stage '{name}' for the {role}")
        if name in rules.network_stages:
            yield Problem(0, f"the stage '{name}' is for the {role}, and must be built without network")


def _in_arguments(dockerfile: Dockerfile) -> Iterator[Problem]:
    used = {stage.base: stage for stage in dockerfile.stages if "$" in stage.base}
    for line, name, default in dockerfile.arguments:
        is_base = any(re.search(rf"\$\{{?{re.escape(name)}\b", base) for base in used)
        if is_base and default and not is_by_digest(default) and default != "scratch":
            yield Problem(line, f"the default of {name} is a base by tag, '{default[:100]}': name it by digest")


def _in_base(dockerfile: Dockerfile, stage: Stage, values: Mapping[str, str]) -> Iterator[Problem]:
    base = expand(stage.base, values)
    earlier = {one.name for one in dockerfile.stages[: stage.index] if one.name}
    if base == "scratch" or base.lower() in earlier or is_by_digest(base):
        return
    if not base:
        yield Problem(stage.line, f"the base '{stage.base[:100]}' is empty: give it as --build-arg NAME=IMAGE@sha256:…")
        return
    yield Problem(stage.line, f"the base '{base[:100]}' is not named by digest: IMAGE@sha256:…; a tag moves")


def _in_instruction(instruction: Instruction) -> Iterator[Problem]:
    if instruction.keyword not in KEYWORDS:
        yield Problem(instruction.line, f"'{instruction.keyword[:40]}' is no instruction that is built here")
    if instruction.keyword in {"ARG", "ENV"}:
        # The old form `ENV name value` and `ARG name` have no sign of equality.
        for name in _ASSIGNED.findall(instruction.text) or instruction.text.split()[:1]:
            if is_secret_name(name):
                text = "a secret would stay in the history: use RUN --mount=type=secret"
                yield Problem(instruction.line, f"{instruction.keyword} {name}: {text}")
    if "insecure" in instruction.values("security"):
        yield Problem(instruction.line, "RUN --security=insecure takes the walls down that a build runs in")


def _in_sources(dockerfile: Dockerfile, stage: Stage, instruction: Instruction, rules: BuildRules) -> Iterator[Problem]:
    for source in copied_from(instruction):
        other = dockerfile.stage(source)
        if other is not None and other.index < stage.index:
            continue
        if source not in rules.contexts and not is_by_digest(source):
            yield Problem(
                instruction.line,
                f"'{source[:100]}' is no earlier stage, no folder that is given, and no image by digest",
            )


def _in_network(instruction: Instruction, *, has_network: bool) -> Iterator[Problem]:
    if instruction.values("network") and (not has_network or "host" in instruction.values("network")):
        yield Problem(instruction.line, "RUN --network: the stage says whether there is one, no instruction does")
    if instruction.keyword != "ADD" or not any(map(_REMOTE.match, instruction.text.split())):
        return
    if not has_network:
        yield Problem(instruction.line, "ADD of a URL outside the dependency step")
    elif not any(value.startswith("sha256:") for value in instruction.values("checksum")):
        yield Problem(instruction.line, "ADD of a URL without --checksum=sha256:…")


def _after_the_step(dockerfile: Dockerfile, stage: Stage, rules: BuildRules) -> Iterator[Problem]:
    """A stage with network that builds on one without would be network after the dependency step."""
    sources: Sequence[tuple[int, str]] = [
        (stage.line, stage.base),
        *((one.line, source) for one in stage.instructions for source in copied_from(one)),
    ]
    for line, name in sources:
        other = dockerfile.stage(name)
        if other is not None and other.name not in rules.network_stages:
            yield Problem(line, f"the stage '{stage.name}' has network, and builds on '{name}', which comes after it")
