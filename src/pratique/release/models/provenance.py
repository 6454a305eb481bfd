"""Where a model comes from, in SLSA's words: the commit that trained it, the data, the model that it began from. Pure.

What was asked for from outside stands in `externalParameters`, by digest, so that a policy can pin it: `base`, and
`datasets.NAME`. The same things are resolved dependencies, as the standard wants them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pratique.core.errors import CallerError
from pratique.release.slsa import AUTHORS_ANNOTATION, Builder, Definition, Provenance, Resource, Run
from pratique.release.values import Digest

__all__ = ["BUILD_TYPE", "Training", "provenance_of"]

BUILD_TYPE: Final = "urn:pratique:build:model:v1"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_OWN: Final = frozenset({"source", "base", "datasets"})


@dataclass(frozen=True, slots=True)
class Training:
    """What went into a model."""

    repository: str
    """Where the code is that trained it: a URL."""
    commit: str
    """40 or 64 hexadecimal digits."""
    builder: str
    """Who ran it: a URI."""
    ref: str = ""
    """The branch or tag; empty: the source is named by its commit."""
    authors: tuple[str, ...] = ()
    """E-mail addresses of who wrote what is new in the commit: they do not approve it."""
    base: Digest | None = None
    """The artifact of the model that it began from."""
    datasets: Mapping[str, Digest] = field(default_factory=dict)
    """By name."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What else was asked for from outside."""


def provenance_of(training: Training) -> Provenance:
    """Say it.

    Raises:
        CallerError: the commit is none, the builder is not named, or a parameter has a name of ours.
    """
    if not _COMMIT.fullmatch(training.commit):
        raise CallerError(f"expected a commit, 40 or 64 hexadecimal digits, got '{training.commit[:100]}'")
    if not training.repository or not training.builder:
        raise CallerError("provenance names the repository of the code, and who ran it")
    if taken := sorted(_OWN & training.parameters.keys()):
        raise CallerError(f"the parameter '{taken[0]}' has a name that is ours")
    return Provenance(
        build_definition=Definition(
            build_type=BUILD_TYPE,
            external_parameters=_external(training),
            resolved_dependencies=tuple(_dependencies(training)),
        ),
        run_details=Run(builder=Builder(id=training.builder)),
    )


def _external(training: Training) -> dict[str, object]:
    return {
        "source": training.repository,
        **({"base": training.base} if training.base is not None else {}),
        **({"datasets": dict(sorted(training.datasets.items()))} if training.datasets else {}),
        **dict(sorted(training.parameters.items())),
    }


def _dependencies(training: Training) -> Iterator[Resource]:
    yield Resource(
        name="source",
        uri=f"git+{training.repository}@{training.ref or training.commit}",
        digest={"gitCommit": training.commit},
        annotations={AUTHORS_ANNOTATION: list(training.authors)} if training.authors else {},
    )
    if training.base is not None:
        yield _artifact("base", training.base, "model")
    for name, digest in sorted(training.datasets.items()):
        yield _artifact(name, digest, "dataset")


def _artifact(name: str, digest: Digest, kind: str) -> Resource:
    return Resource(name=name, digest={"sha256": digest.removeprefix("sha256:")}, annotations={"kind": kind})
