"""Where files come from, and what an index says of them. An upstream index and a folder are both a source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

import msgspec

from pratique.release.values import Digest

__all__ = ["IndexFile", "IndexProject", "Source"]


class IndexFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as a source offers it. Nothing here is believed but for what it asks us to refuse."""

    filename: str
    url: str
    digest: Digest | None = None
    """As the source says; None: it says none by SHA-256."""
    uploaded_at: datetime | None = None
    yanked: str | None = None
    """Why it was taken back; empty: without a reason; None: it was not."""
    requires_python: str = ""
    metadata: Digest | None = None
    """Of the metadata that the source offers beside it."""
    has_provenance: bool = False
    """Whether the source has attestations of who published it (PEP 740)."""


class IndexProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project as a source offers it."""

    name: str
    files: tuple[IndexFile, ...] = ()


class Source(Protocol):
    """Where files come from."""

    name: str

    def project(self, name: str) -> IndexProject | None:
        """Return what there is of a project; None: nothing.

        Raises:
            UpstreamError: it cannot be said.
        """

    def read(self, file: IndexFile) -> Iterator[bytes]:
        """Read a file piece by piece.

        Raises:
            UpstreamError: it does not come whole.
        """
