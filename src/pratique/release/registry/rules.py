"""What a tag may be made to name: conditions, and tags that never move. Pure; memory and the front decide by it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pratique.release.errors import ConflictError
from pratique.release.values import Digest

__all__ = [
    "FRONT_HEADER",
    "MUTABLE_TAGS",
    "Condition",
    "PreconditionError",
    "TagMovedError",
    "is_mutable",
    "require_writable",
]

FRONT_HEADER: Final = "Pratique-Conditional-Writes"
"""Our front sends it with every answer: conditions hold here."""
MUTABLE_TAGS: Final = (r"sha256-[0-9a-f]{64}(\.(sig|att|sbom))?",)
"""Lists of evidence grow: the index of referrers of the OCI specification, and cosign's older tags."""


class TagMovedError(ConflictError):
    """The tag is immutable and names something else."""

    code = "tag_immutable"


class PreconditionError(ConflictError):
    """The condition of a write does not hold."""

    code = "precondition_failed"


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a write; by default nothing."""

    only_if: Digest | None = None
    """The tag names this digest."""
    only_if_absent: bool = False
    """The tag names nothing."""

    def __bool__(self) -> bool:
        return self.only_if is not None or self.only_if_absent


def is_mutable(tag: str, patterns: Iterable[str]) -> bool:
    """Whether a tag is one of those that may move: one pattern matches it whole."""
    return any(re.fullmatch(pattern, tag, re.ASCII) for pattern in patterns)


def require_writable(tag: str, current: Digest | None, new: Digest, *, condition: Condition, may_move: bool) -> None:
    """Decide whether a tag that names `current` (None: nothing) may be made to name `new`.

    Raises:
        PreconditionError: the condition does not hold; looked at first, so that a writer who asked learns it.
        TagMovedError: the tag may not move, and would.
    """
    if condition.only_if_absent and current is not None:
        raise PreconditionError(f"expected no tag '{tag}', but it names {current}", hint="Read it anew, then decide.")
    if condition.only_if is not None and current != condition.only_if:
        found = f"names {current}" if current is not None else "does not exist"
        raise PreconditionError(
            f"expected that the tag '{tag}' names {condition.only_if}, but it {found}",
            hint="Read it anew, then decide.",
        )
    if current not in {None, new} and not may_move:
        raise TagMovedError(
            f"the tag '{tag}' is immutable: it names {current}, and cannot be made to name {new}",
            hint="Push under a new tag. Deploy by digest, never by tag.",
        )
