"""Images to look at, from OCI layouts on disk: every digest in them is checked before anything is said about them."""

from __future__ import annotations

from pathlib import Path

from pratique.release.build.layout import read_layout
from pratique.release.evidence.interface import Image
from pratique.release.registry.interface import Manifest
from pratique.release.values import Subject

__all__ = ["open_layout"]


def open_layout(folder: Path, repository: str) -> Image:
    """Read the one image of a layout.

    Args:
        folder: as `pratique build` writes it.
        repository: where the image lies, or will: `host/path`.

    Raises:
        EvidenceError: there is no image, there are several, or something is not what its digest says.
    """
    found = read_layout(folder)
    manifest = Manifest(found.manifest, found.media_type, found.digest)
    return Image(Subject(repository, found.digest), manifest, found.config, None, folder)
