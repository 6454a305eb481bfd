"""A manifest that was recorded elsewhere than beside the model: what a folder is compared with (`--against`).

A file holds one manifest, or a ledger: JSON lines, each a manifest or an object with a `manifest`. Of several for one
model the last counts, as in any ledger that is only ever appended to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from pratique.inference.artifacts._files import UnreadableError, opened, printable
from pratique.inference.artifacts._record import Manifest, parse_manifest

__all__ = ["read_recorded"]

_MAX_BYTES: Final = 256 << 20


class _Entry(msgspec.Struct, frozen=True):
    manifest: msgspec.Raw = msgspec.Raw()


def read_recorded(path: Path, name: str) -> Manifest:
    """Return what was recorded for the model `name` in the manifest or ledger at `path`.

    Raises:
        UnreadableError, ArtifactError: the file cannot be read or is malformed, or nothing is recorded for that model.
    """
    path = path.absolute()
    with opened(path.parent) as folder:
        try:
            raw = folder.read(path.name, _MAX_BYTES)
        except FileNotFoundError as error:
            raise UnreadableError(f"{folder.where(path.name)} does not exist.") from error
    manifests = [parse_manifest(_manifest_of(part, path), path) for part in _parts(raw)]
    # One file with one manifest is compared whatever its name says; the comparison then tells.
    found = manifests if len(manifests) == 1 else [manifest for manifest in manifests if manifest.name == name]
    if not found:
        raise UnreadableError(
            f"{path} records nothing for the model {printable(name)!r}.", hint="Name the ledger it was promoted in."
        )
    return found[-1]


def _parts(raw: bytes) -> list[bytes]:
    lines = [line for line in raw.splitlines() if line.strip()]
    try:
        for line in lines:
            msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [raw]  # not lines of objects: one manifest, in whatever layout
    return lines or [raw]


def _manifest_of(part: bytes, path: Path) -> bytes:
    try:
        return bytes(msgspec.json.decode(part, type=_Entry).manifest) or part
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError(f"{path} is neither a manifest nor a ledger: {error}.") from error
