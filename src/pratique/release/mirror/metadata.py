"""Core metadata inside a wheel, read from the file that was approved and never from whoever offers it.

Sources: the wheel format (PEP 427), core metadata, PEP 639 (licence expressions).
"""

from __future__ import annotations

import email.parser
import lzma
import zipfile
import zlib
from typing import BinaryIO, Final

__all__ = ["field_of", "licence_classifiers", "licence_of", "metadata_of_wheel"]

_MAX_BYTES: Final = 4 * 1024 * 1024
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
)
"""All that `zipfile` raises for archives that it cannot read."""


def metadata_of_wheel(opened: BinaryIO) -> bytes | None:
    """Return the file METADATA of a wheel; None: it has none, or more than one, or cannot be read."""
    try:
        with zipfile.ZipFile(opened) as archive:
            found = [one for one in archive.infolist() if _is_metadata(one.filename)]
            if len(found) != 1 or found[0].file_size > _MAX_BYTES:
                return None
            with archive.open(found[0]) as member:
                content = member.read(_MAX_BYTES + 1)
    except _BROKEN:
        return None
    return content if len(content) <= _MAX_BYTES else None


def field_of(metadata: bytes, name: str) -> str:
    """Return a field; empty: there is none."""
    value = email.parser.BytesHeaderParser().parsebytes(metadata).get(name)
    return str(value).strip() if value is not None else ""


def licence_of(metadata: bytes) -> str:
    """Return the licence as the project states it, an expression first; empty: it states none in one line."""
    text = field_of(metadata, "License-Expression") or field_of(metadata, "License")
    return text if "\n" not in text else ""


def licence_classifiers(metadata: bytes) -> tuple[str, ...]:
    """Return what the project's classifiers say of its licence, in their words, which are no SPDX expressions."""
    told = email.parser.BytesHeaderParser().parsebytes(metadata).get_all("Classifier") or []
    return tuple(str(one).rpartition("::")[2].strip() for one in told if str(one).startswith("License ::"))


def _is_metadata(name: str) -> bool:
    return name.count("/") == 1 and name.endswith(".dist-info/METADATA")
