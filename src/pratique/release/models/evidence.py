"""What a model server needs to know of an artifact, as files: the manifest, and the bundles that speak for it.

    NAME.evidence/artifact.json                   the manifest, byte for byte
    NAME.evidence/sha256-<hex>.sigstore.json      one bundle, named by its digest

The folder lies beside the model's and is never in it: what is hashed and what vouches for it stay apart. It is only
ever added to. Nothing in it is believed for lying there.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pratique.release.errors import ConflictError, EvidenceError, NotFoundError, VerificationError
from pratique.release.models.store import ModelFolderError
from pratique.release.predicates import DECISION, RELEASE
from pratique.release.registry.interface import Registry
from pratique.release.registry.manifests import MAX_MANIFEST_BYTES
from pratique.release.signing.interface import Dossier
from pratique.release.values import Subject, digest_of

__all__ = ["Evidence", "fetch_evidence", "load_evidence", "require_about", "save_evidence"]

ARTIFACT: Final = "artifact.json"
_SUFFIX: Final = ".sigstore.json"
_KEPT: Final = frozenset({RELEASE, DECISION})
"""What a server asks for. An evaluation is the gate's business; the decision says that it was looked at."""
MAX_BUNDLES: Final = 64
MAX_BUNDLE_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """A manifest and the bundles beside it; nothing of it is verified."""

    manifest: bytes
    bundles: tuple[bytes, ...]


def fetch_evidence(registry: Registry, subject: Subject, dossier: Dossier) -> Evidence:
    """Read from a registry what a server will ask for: signatures, and decisions of the gate.

    Bundles that do not verify are left there: they would prove nothing here either.

    Raises:
        EvidenceError: there are more than a server reads.
    """
    kept = [one for one in dossier.attestations if one.statement.predicate_type in _KEPT]
    if len(kept) > MAX_BUNDLES:
        raise EvidenceError(f"{len(kept)} signatures and decisions lie beside {subject.digest}, at most {MAX_BUNDLES}")
    bundles = []
    for one in kept:
        try:
            bundles.append(registry.blob(subject.repository, one.bundle, max_bytes=MAX_BUNDLE_BYTES))
        except NotFoundError:
            continue  # of cosign's older layout: its pieces are no bundle
    return Evidence(registry.manifest(subject.repository, subject.digest).content, tuple(bundles))


def save_evidence(folder: Path, evidence: Evidence) -> None:
    """Add to a folder, made where there is none; bundles that are there stay.

    Raises:
        ConflictError: the folder is about another artifact.
        ModelFolderError: it cannot be written.
    """
    try:
        require_about(folder, evidence)
        folder.mkdir(parents=True, exist_ok=True)
        files = {digest_of(one).replace(":", "-") + _SUFFIX: one for one in evidence.bundles}
        for name, content in {**files, ARTIFACT: evidence.manifest}.items():
            _write(folder / name, content)
    except OSError as error:
        raise ModelFolderError(f"the evidence in {folder} cannot be written: {error.strerror or error}") from error


def require_about(folder: Path, evidence: Evidence) -> None:
    """Make sure that evidence can be added to a folder; there may be none.

    Raises:
        ConflictError: it is about another artifact.
        ModelFolderError: it cannot be read.
    """
    try:
        there = _read(folder / ARTIFACT, MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelFolderError(f"the evidence in {folder} cannot be read: {error.strerror or error}") from error
    if there != evidence.manifest:
        raise ConflictError(
            f"{folder} is about another artifact than {digest_of(evidence.manifest)}",
            hint="Evidence lies beside its own model: name another folder, or move this one away.",
        )


def load_evidence(folder: Path) -> Evidence:
    """Read a folder.

    Raises:
        EvidenceError: there is none, it holds no manifest, or more or larger files than evidence has.
        ModelFolderError: it cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except FileNotFoundError as error:
        raise EvidenceError(
            f"there is no evidence in {folder}", hint="`pratique model pull` lays it beside the model."
        ) from error
    except OSError as error:
        raise ModelFolderError(f"the evidence in {folder} cannot be read: {error.strerror}") from error
    bundles = [name for name in names if name.endswith(_SUFFIX)]
    if len(bundles) > MAX_BUNDLES:
        raise EvidenceError(f"{folder} holds {len(bundles)} bundles, at most {MAX_BUNDLES} are read")
    if ARTIFACT not in names:
        raise EvidenceError(f"{folder} holds no {ARTIFACT}, which names the model's files")
    try:
        manifest = _read(folder / ARTIFACT, MAX_MANIFEST_BYTES)
        return Evidence(manifest, tuple(_read(folder / name, MAX_BUNDLE_BYTES) for name in bundles))
    except OSError as error:
        raise ModelFolderError(f"the evidence in {folder} cannot be read: {error.strerror}") from error


def _read(path: Path, max_bytes: int) -> bytes:
    # Neither through a link nor waiting for a pipe: whoever may write here must not choose what is read elsewhere.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise EvidenceError(f"{path} is no regular file")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise VerificationError(f"{path} has more than {max_bytes} bytes")
    return content


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".part-{path.name}")
    part.write_bytes(content)
    part.replace(path)
