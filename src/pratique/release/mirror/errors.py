"""What can go wrong with the mirror."""

from __future__ import annotations

from pratique.release.errors import EvidenceError, UnavailableError, VerificationError

__all__ = ["ApprovedFileError", "HashDiffersError", "MirrorStoreError", "UpstreamError"]


class ApprovedFileError(EvidenceError):
    """The file of approved packages is none, or contradicts itself: nothing is approved by it."""

    code = "approved_file_refused"


class HashDiffersError(VerificationError):
    """A file is not the one that was approved: changed upstream, on the way, or in the store."""

    code = "hash_differs"


class MirrorStoreError(UnavailableError):
    """The mirror's store cannot be read or written."""

    code = "mirror_store"


class UpstreamError(UnavailableError):
    """The upstream index does not answer, or not with what an index answers."""

    code = "upstream_unavailable"
