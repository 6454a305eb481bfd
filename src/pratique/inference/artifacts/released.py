"""What a server that requires released artifacts asks before it reads a model: may this folder be loaded, and as what?

Who answers is none of this part's business: the command that starts the server brings somebody. The answer names every
file with its size and SHA-256; here the folder's own manifest is held against it, so that the checks which follow
(layout, content, seal) are checks against what was signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

from pratique.core.errors import PratiqueError
from pratique.inference.artifacts._files import opened, printable
from pratique.inference.artifacts._record import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from pratique.inference.errors import ArtifactError, UnreleasedArtifactError

__all__ = ["PULL_AGAIN", "Admit", "Released", "ask", "check_released"]

PULL_AGAIN: Final = "The folder, or its evidence, is not what was released: do not serve it; pull it again."


class Released(Protocol):
    """An artifact that may be loaded."""

    @property
    def digest(self) -> str:
        """What the artifact is known by everywhere: sha256:…."""

    @property
    def kind(self) -> Literal["model", "adapter"]: ...

    @property
    def base(self) -> str | None:
        """Of an adapter: the digest of its model."""

    @property
    def files(self) -> Mapping[str, tuple[int, str]]:
        """Each file's size in bytes and SHA-256 in hexadecimal, the import's manifest included."""

    def told(self) -> dict[str, object]:
        """Return what /status says of it."""


class Admit(Protocol):
    """Answers the question. Blocks; reads files only."""

    def __call__(self, folder: Path) -> Released:
        """Return what the folder must hold. Raises PratiqueError where it may not be loaded."""


def ask(admit: Admit, folder: Path, *, base: str | None = None) -> Released:
    """Ask whether a folder may be loaded: as a model, or with `base` as an adapter of that model.

    Raises:
        UnreleasedArtifactError: it may not, and why.
    """
    try:
        released = admit(folder)
    except PratiqueError as error:
        raise UnreleasedArtifactError(f"{folder} may not be loaded: {error.message}", hint=error.hint) from error
    expected = "model" if base is None else "adapter"
    if released.kind != expected:
        raise UnreleasedArtifactError(f"{folder} was released as '{released.kind}', expected '{expected}'.")
    if released.base != base:
        raise UnreleasedArtifactError(
            f"{folder} was released for the model {released.base}, and the one that is served is {base}.",
            hint="Serve the model that it was made for.",
        )
    return released


def check_released(folder: Path, manifest: Manifest, released: Released) -> None:
    """Hold a folder's manifest, as it was read, against what was released.

    Raises:
        UnreleasedArtifactError: naming the first file about which they differ.
    """
    found = {entry.name: (entry.size_bytes, entry.sha256) for entry in manifest.files}
    try:
        with opened(folder) as files:
            raw = files.read(MANIFEST, MAX_MANIFEST_BYTES)
    except (ArtifactError, FileNotFoundError) as error:
        raise UnreleasedArtifactError(f"{folder / MANIFEST} cannot be read.", hint=PULL_AGAIN) from error
    found[MANIFEST] = (len(raw), hashlib.sha256(raw).hexdigest())
    for name in sorted(found.keys() | released.files.keys()):
        if found.get(name) != released.files.get(name):
            where = printable(str(folder / name))
            raise UnreleasedArtifactError(
                f"{where} is {_told(found.get(name))}, and {_told(released.files.get(name))} in the artifact"
                f" {released.digest}.",
                hint=PULL_AGAIN,
            )


def _told(file: tuple[int, str] | None) -> str:
    return "absent" if file is None else f"{file[0]} bytes with SHA-256 {file[1]}"
