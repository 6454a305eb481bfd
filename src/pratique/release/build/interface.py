"""What a build asks of the program that builds: known bases, one stage at a time, and the result as it is.

A builder works in a storage of its own, which begins empty: nothing of an earlier build can be found there. It is not
believed about labels, time or form of what it writes: that is written anew (`normalise`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Protocol

from pratique.release.build.layout import LayoutImage

__all__ = ["Builder", "BuilderFactory", "BuilderIdentity", "BuiltStage", "Exported", "StageBuild"]

BuiltStage = NewType("BuiltStage", str)
"""What a builder calls something that it built."""


@dataclass(frozen=True, slots=True)
class BuilderIdentity:
    """Which program built, and with which of its switches that change the result."""

    name: str
    version: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StageBuild:
    """One stage to be built, with all that it is built from."""

    dockerfile: Path
    context: Path
    target: str
    epoch: int
    """Seconds since 1970: the time of every file and of the image."""
    network_stages: tuple[str, ...]
    """The stages that may have network; no instruction of another has any."""
    timeout_seconds: float
    arguments: Mapping[str, str]
    contexts: Mapping[str, Path]
    """Folders to copy from, by name."""
    secrets: Mapping[str, Path]
    """Files that instructions may mount, by id."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An image as a builder wrote it: its configuration, and its layers in any compression."""

    config: bytes
    layers: tuple[Path, ...]


class Builder(Protocol):
    """Builds stages of one Dockerfile, one after another.

    Every method raises ToolMissingError where the program is not installed, and ToolFailedError where it failed or
    took too long.
    """

    def identity(self) -> BuilderIdentity:
        """Say what builds."""
        ...

    def provide(self, reference: str, image: LayoutImage) -> None:
        """Make a base image known under the name by digest that the Dockerfile calls it by."""
        ...

    def build(self, stage: StageBuild) -> BuiltStage:
        """Build a stage. What an earlier call built is not built again.

        Raises:
            StepFailedError: an instruction failed.
        """
        ...

    def export(self, built: BuiltStage, folder: Path) -> Exported:
        """Write what was built into an empty folder."""
        ...


class BuilderFactory(Protocol):
    """Makes builders."""

    def __call__(self, storage: Path, log: Path) -> Builder:
        """Return a builder that keeps everything in an empty folder, and tells a file what its programs said."""
        ...
