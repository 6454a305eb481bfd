"""What keeps a scan of files, of what is staged or of a history from being done."""

from __future__ import annotations

from pratique.core.errors import CallerError, EnvironmentFaultError

__all__ = ["ScanFailedError", "ScanUsageError"]


class ScanUsageError(CallerError):
    """A path, a range or an allow file means nothing to the scanner."""

    code = "scan_usage"


class ScanFailedError(EnvironmentFaultError):
    """Git failed, or what should be scanned cannot be read: whether there are secrets is not known."""

    code = "scan_failed"
