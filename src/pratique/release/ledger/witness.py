"""A head that is kept outside of the ledger: whoever puts back all of the ledger cannot put this back too."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from pratique.core.errors import CallerError
from pratique.release.decoding import MalformedError, convert_value, decode_json
from pratique.release.errors import UnavailableError
from pratique.release.files import replacing
from pratique.release.ledger.chain import HeadMark
from pratique.release.ledger.errors import LedgerBrokenError

__all__ = ["WitnessFile", "load_witness"]

_MAX_BYTES: Final = 64 * 1024


class _Kept(msgspec.Struct, frozen=True):
    ledger: str
    size: int
    hash: str
    schema_version: int = 1


class WitnessFile:
    """A file with the last head, replaced whole at every append."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> HeadMark | None:
        """Return the head that was kept; None where no file is.

        Raises:
            LedgerBrokenError: it holds no head.
            UnavailableError: it cannot be read.
        """
        return _read(self._file)

    def keep(self, mark: HeadMark) -> None:
        """Replace what is kept.

        Raises:
            UnavailableError: it cannot be written.
        """
        try:
            with replacing(self._file, mode=0o600) as file:
                file.write(msgspec.json.encode(_Kept(mark.ledger, mark.size, mark.hash)) + b"\n")
        except OSError as error:
            raise UnavailableError(f"the ledger's witness {self._file} cannot be written: {error}") from error


def load_witness(file: Path) -> HeadMark:
    """Return the head in a file that somebody names.

    Raises:
        CallerError: there is no such file.
        LedgerBrokenError: it holds no head.
        UnavailableError: it cannot be read.
    """
    mark = _read(file)
    if mark is None:
        raise CallerError(f"there is no witness {file}", hint="Make one: pratique ledger show --head --json")
    return mark


def _read(file: Path) -> HeadMark | None:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"the ledger's witness {file} cannot be read: {error}") from error
    try:
        kept = decode_json(content, _Kept)
        return convert_value({"ledger": kept.ledger, "size": kept.size, "hash": kept.hash}, HeadMark)
    except MalformedError as error:
        raise LedgerBrokenError(f"the ledger's witness {file} holds no head: {error}") from error
