"""Where records come from: the archive that OSV exports for an ecosystem (`all.zip`), or a folder of JSON files.

Every JSON file in them is a record, whatever it is called; nothing is skipped. Sizes are limited before anything is
unpacked: an archive is somebody else's file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pratique.release.advisories.errors import AdvisoryDataError
from pratique.release.advisories.records import MAX_RECORD_BYTES

__all__ = ["RawRecord", "read_source"]

MAX_RECORDS: Final = 2_000_000
MAX_BYTES: Final = 32 * 1024**3
"""Of all records of a source, unpacked."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it lies there."""

    where: str
    content: bytes


def read_source(path: Path) -> Iterator[RawRecord]:
    """Go through the records of an archive or a folder, in the order of their names.

    Raises:
        AdvisoryDataError: it is neither, it is damaged, or it is larger than what is read.
    """
    records = _from_folder(path) if path.is_dir() else _from_archive(path)
    num_bytes = 0
    for num_records, record in enumerate(records, start=1):
        num_bytes += len(record.content)
        if num_records > MAX_RECORDS or num_bytes > MAX_BYTES:
            raise AdvisoryDataError(f"{path} has more than {MAX_RECORDS} records or {MAX_BYTES} bytes of them")
        yield record


def _from_folder(folder: Path) -> Iterator[RawRecord]:
    for path in sorted(folder.rglob("*.json")):
        try:
            with path.open("rb") as file:
                # One byte more than is read: the record is then refused for its size, with its name.
                yield RawRecord(str(path), file.read(MAX_RECORD_BYTES + 1))
        except OSError as error:
            raise AdvisoryDataError(f"{path} cannot be read: {error.strerror}") from error


def _from_archive(path: Path) -> Iterator[RawRecord]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".json"):
                    with archive.open(name) as file:
                        yield RawRecord(f"{path}:{name}", file.read(MAX_RECORD_BYTES + 1))
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError: an entry is encrypted.
        hint = "OSV exports one archive for each ecosystem: ECOSYSTEM/all.zip."
        raise AdvisoryDataError(f"{path} is no folder and no readable archive: {error}", hint=hint) from error
