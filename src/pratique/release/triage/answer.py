"""What triage answers; the JSON of `pratique triage --json` and of the feed's alerts, schema version 1."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from pratique.release.predicates import Severity
from pratique.release.values import Digest

__all__ = ["AdvisoryNote", "Answer", "ComponentNote", "Placement", "ReachNote", "RunningImage"]


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is written; every member always is."""


class AdvisoryNote(_Value, frozen=True, kw_only=True):
    """An advisory that was asked about."""

    id: str
    aliases: tuple[str, ...]
    severity: Severity
    summary: str


class ComponentNote(_Value, frozen=True, kw_only=True):
    """A component that is affected, or may be."""

    package: str
    """The package URL, with its version."""
    verdict: Literal["affected", "undetermined"]
    """Undetermined: the version, the release or the record's range could not be compared; it counts as affected."""
    advisories: tuple[str, ...]
    fixed_in: tuple[str, ...]
    num_images: int


class Placement(_Value, frozen=True, kw_only=True):
    """Where an image takes traffic."""

    environment: str
    role: Literal["stable", "canary"]
    target: str
    since: datetime


class ReachNote(_Value, frozen=True, kw_only=True):
    """How an image came by an affected component. Empty where its bill of materials does not tell."""

    package: str
    layer: str
    is_base: bool
    """The layer is one of the base image's."""
    location: str
    chain: tuple[str, ...]
    """From the package that nothing needs down to this one."""


class RunningImage(_Value, frozen=True, kw_only=True):
    """An affected image that takes traffic."""

    digest: Digest
    repository: str
    places: tuple[Placement, ...]
    reached: tuple[ReachNote, ...]


class Answer(_Value, frozen=True, kw_only=True):
    """What is known about a question."""

    schema_version: Literal[1] = 1
    question: str
    advisories: tuple[AdvisoryNote, ...]
    components: tuple[ComponentNote, ...]
    running: tuple[RunningImage, ...]
    num_images: int
    """Affected images, running ones too."""
    images: tuple[Digest, ...]
    """Their digests; where there are more than were asked for, the first of them."""
    unknown: tuple[RunningImage, ...]
    """Images that take traffic, and of which nobody knows here what they are made of."""
    num_images_known: int
    """So many images were looked at."""

    @property
    def is_affected(self) -> bool:
        """Whether any image is affected, or may be."""
        return self.num_images > 0

    @property
    def exit_code(self) -> int:
        """0: no image is affected; 1: some are, or may be; 3: none is that is known, and not all are, or none is."""
        if self.is_affected:
            return 1
        return 3 if self.unknown or not self.num_images_known else 0
