"""What can go wrong with advisory data."""

from __future__ import annotations

from pratique.release.errors import EvidenceError, UnavailableError

__all__ = ["AdvisoryDataError", "AdvisoryDatabaseError"]


class AdvisoryDataError(EvidenceError):
    """Advisory data that cannot be used: unreadable records, none at all, or older than it says."""

    code = "advisory_data_refused"


class AdvisoryDatabaseError(UnavailableError):
    """There is no advisory database, or what is there is none: nothing can be said about any package."""

    code = "advisory_database"
