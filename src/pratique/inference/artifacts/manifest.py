"""Verification of a model's folder against the manifest beside its files; the public face of this package's checks.

In two steps, so that a server can overlap the second with the load:

    manifest = check_layout(folder)                 # an instant, before any engine opens a file
    seal = Seal.take(folder, manifest)              # before the load begins
    verify_content(folder, manifest, progress)      # beside the load, in a thread
    seal.check()                                    # after both: what was loaded is what was hashed

`verify` is all of it for who does not load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pratique.inference.artifacts._content import Seal, VerificationCancelledError, verify_content
from pratique.inference.artifacts._files import UnreadableError
from pratique.inference.artifacts._layout import check_layout, check_unrecorded_layout
from pratique.inference.artifacts._record import (
    MANIFEST,
    FileEntry,
    Manifest,
    encode_manifest,
    hash_file,
    read_manifest,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "FileEntry",
    "Manifest",
    "Seal",
    "UnreadableError",
    "VerificationCancelledError",
    "check_layout",
    "check_unrecorded_layout",
    "hash_file",
    "manifest_digest",
    "read_manifest",
    "verify",
    "verify_content",
    "write_manifest",
]


def verify(
    folder: Path, progress: Callable[[float], None] | None = None, *, recorded: Manifest | None = None
) -> Manifest:
    """Compare every file with the manifest: names, sizes, headers, checksums, nothing missing, nothing added.

    `progress` hears the share of the bytes that is checked, 0…1; `recorded` is a manifest kept elsewhere, which the
    folder's own must equal.

    Raises:
        ArtifactError: naming the first file that differs, with what was expected and found.
        UnsafeWeightsError: a file is a pickle.
    """
    manifest = check_layout(folder, recorded)
    verify_content(folder, manifest, progress)
    return manifest


def manifest_digest(manifest: Manifest) -> str:
    """Return the SHA-256 of a manifest, in hexadecimal: the identity of the artifact, wherever it lies."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()
