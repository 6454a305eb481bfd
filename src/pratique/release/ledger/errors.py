"""What can go wrong with a ledger, beyond the errors that all rooms share."""

from __future__ import annotations

from pratique.core.errors import CallerError
from pratique.release.errors import VerificationError

__all__ = ["EntryError", "LedgerBrokenError"]


class EntryError(CallerError):
    """What should become an entry cannot: no JSON object, too large, or a name that is none."""

    code = "invalid_entry"


class LedgerBrokenError(VerificationError):
    """The ledger is not what was written: an entry, a link or a head was changed, or entries are missing."""

    code = "ledger_broken"
