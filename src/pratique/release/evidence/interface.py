"""A collector looks at an image and says one kind of thing about it. It decides nothing and signs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pratique.release.registry.interface import Manifest, Registry
from pratique.release.values import Digest, Subject

__all__ = ["Collector", "Image", "Predicate"]


@dataclass(frozen=True, slots=True)
class Image:
    """An image to look at: where it lies, and a folder with it in OCI layout for the tools that need files."""

    subject: Subject
    manifest: Manifest
    config: bytes
    registry: Registry | None
    """None: it lies in the layout only, and was not pushed yet."""
    layout: Path
    """An OCI image layout (`oci-layout`, `index.json`, `blobs/`) that holds this image alone."""


@dataclass(frozen=True, slots=True)
class Predicate:
    """What a collector found, ready to be put into a statement."""

    type: str
    content: object
    """What msgspec can write as a JSON object."""
    depends_on: tuple[Digest, ...] = ()
    """Statements that this one was made from: a scan from its SBOM, for example."""


class Collector(Protocol):
    """One kind of evidence."""

    @property
    def name(self) -> str:
        """A word for people and flags, for example "sbom"."""
        ...

    def collect(self, image: Image) -> Predicate:
        """Look at the image.

        Raises:
            EvidenceError: what was found cannot be used: it is malformed, incomplete or about something else.
            ToolMissingError, ToolFailedError: the program that looks could not.
        """
        ...
