"""Images to look at, as OCI layouts on disk: every digest in them is checked before anything is said about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pratique.release.build.layout import read_layout
from pratique.release.evidence.interface import Image
from pratique.release.registry.interface import Manifest, Registry
from pratique.release.registry.layout import ImageLayout, pull_image
from pratique.release.values import Subject

__all__ = ["open_layout", "pull"]


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


def pull(registry: Registry, subject: Subject, folder: Path) -> Image:
    """Copy an image from its repository into an empty folder, and read it there.

    Raises:
        NotFoundError: there is none.
        VerificationError: the registry sent something else.
        EvidenceError: it is an index of several images: each has its own digest, and evidence of its own.
    """
    pull_image(registry, subject.repository, subject.digest, ImageLayout(folder))
    return replace(open_layout(folder, subject.repository), registry=registry)
