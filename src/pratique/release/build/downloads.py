"""What the dependency step brought, file by file, against what the locks allow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from pratique.release.build.errors import UnlistedWheelError
from pratique.release.build.interface import Exported
from pratique.release.build.layertar import Entry, LayerLimits, read_entries
from pratique.release.build.record import Material
from pratique.release.values import Digest

__all__ = ["downloads_of", "hashes_in_lock", "require_listed"]

_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})(?![0-9a-f])")
_CHUNK: Final = 1024 * 1024
_SHOWN: Final = 10


def downloads_of(exported: Exported, folder: str) -> tuple[Material, ...]:
    """Return the files that stand below a folder of a built stage, whichever layer brought them.

    Raises:
        EvidenceError: a layer cannot be read.
    """
    prefix = folder.strip("/") + "/"
    limits = LayerLimits()
    found: dict[str, Digest] = {}
    for layer in exported.layers:
        with layer.open("rb") as stream:
            for entry in read_entries(stream, limits):
                if entry.kind == "file" and entry.path.startswith(prefix) and entry.removes is None:
                    found[entry.path.removeprefix(prefix)] = _digest(entry)
    return tuple(Material(name=name, digest=digest) for name, digest in sorted(found.items()))


def _digest(entry: Entry) -> Digest:
    content = hashlib.sha256()
    while entry.content is not None and (chunk := entry.content.read(_CHUNK)):
        content.update(chunk)
    return Digest("sha256:" + content.hexdigest())


def hashes_in_lock(text: str) -> frozenset[Digest]:
    """Return the hashes that a requirements file allows. Pure."""
    return frozenset(Digest(f"sha256:{found}") for found in _HASH.findall(text))


def require_listed(downloads: Iterable[Material], allowed: AbstractSet[Digest], locks: Iterable[Path]) -> None:
    """Raise where a file was brought that no lock names. Pure.

    Raises:
        UnlistedWheelError: naming them.
    """
    strange = [f"  {one.name} {one.digest}" for one in downloads if one.digest not in allowed]
    if strange:
        named = ", ".join(str(lock) for lock in locks) or "none is given: --lock FILE"
        raise UnlistedWheelError(
            f"the dependency step brought {len(strange)} files that no lock names ({named}):\n"
            + "\n".join(strange[:_SHOWN]),
            hint="Install with --require-hashes from a lock, and give that lock.",
        )
