"""What an error of DynamoDB, or of the way to it, means: a condition that did not hold, worth another try, or the end.

Pure: the names are those of the DynamoDB API reference ("Error handling with DynamoDB", "TransactWriteItems"). An
answer that is not known here is not retried; an unknown failure on the way to an answer is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Fault", "Kind", "assess_cancellation", "assess_code", "assess_transport", "backoff_seconds"]


class Kind(enum.Enum):
    """What to do about an error."""

    CONDITION = "condition"
    """Somebody else was first: read again and decide."""
    RETRY = "retry"
    """Nothing was done, or it cannot be known: the same request again."""
    FATAL = "fatal"
    """The same request fails again until somebody changes something."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    kind: Kind
    reason: str
    """For metrics and messages: a short, stable name."""
    hint: str | None = None


_SLOW_DOWN: Final = "The table takes less than is asked of it: raise its capacity or limits, or use on-demand capacity."
_CREDENTIALS: Final = (
    "Check the replica's credentials: the role of its task or instance, or AWS_ACCESS_KEY_ID and so on."
)
_PERMISSION: Final = "Allow the actions listed in docs/orchestrator/stores.md on the table and its index."
_REACH: Final = "Check the region, the endpoint and the network between here and DynamoDB."
_TABLE: Final = "Check the table's name and region, or make it: pratique conversations create-table"

_RETRIED: Final = {
    "ProvisionedThroughputExceededException": ("throttled", _SLOW_DOWN),
    "ProvisionedThroughputExceeded": ("throttled", _SLOW_DOWN),
    "ThrottlingException": ("throttled", _SLOW_DOWN),
    "ThrottlingError": ("throttled", _SLOW_DOWN),
    "RequestLimitExceeded": ("throttled", _SLOW_DOWN),
    "LimitExceededException": ("throttled", _SLOW_DOWN),
    "TransactionConflictException": ("conflict", None),
    "TransactionConflict": ("conflict", None),
    "TransactionInProgressException": ("in_progress", None),
    "InternalServerError": ("server_error", None),
    "ServiceUnavailable": ("server_error", None),
    "RequestTimeout": ("server_error", None),
}
_ENDED: Final = {
    "ResourceNotFoundException": ("no_table", _TABLE),
    "AccessDeniedException": ("access_denied", _PERMISSION),
    "UnrecognizedClientException": ("credentials", _CREDENTIALS),
    "InvalidSignatureException": ("credentials", _CREDENTIALS),
    "IncompleteSignatureException": ("credentials", _CREDENTIALS),
    "MissingAuthenticationTokenException": ("credentials", _CREDENTIALS),
    "ExpiredTokenException": ("credentials", _CREDENTIALS),
    "NoCredentialsError": ("credentials", _CREDENTIALS),
    "PartialCredentialsError": ("credentials", _CREDENTIALS),
    "CredentialRetrievalError": ("credentials", _CREDENTIALS),
    "TokenRetrievalError": ("credentials", _CREDENTIALS),
    "ParamValidationError": ("refused", None),
    "NoRegionError": ("no_region", "Set the region: [orchestrator.store] region, or AWS_REGION."),
}
_CONDITION: Final = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException"})
_FIRST_SERVER_ERROR: Final = 500
_BASE_SECONDS: Final = 0.025
_MOST_SECONDS: Final = 1.0


def assess_code(code: str, *, status: int) -> Fault:
    """Return what an error answer means."""
    if code in _CONDITION:
        return Fault(kind=Kind.CONDITION, reason="condition")
    if code in _RETRIED:
        reason, hint = _RETRIED[code]
        return Fault(kind=Kind.RETRY, reason=reason, hint=hint)
    if code in _ENDED:
        reason, hint = _ENDED[code]
        return Fault(kind=Kind.FATAL, reason=reason, hint=hint)
    if status >= _FIRST_SERVER_ERROR:
        return Fault(kind=Kind.RETRY, reason="server_error")
    return Fault(kind=Kind.FATAL, reason="refused")


def assess_cancellation(reasons: Sequence[Mapping[str, Any]]) -> Fault:
    """Return what the reasons of a cancelled transaction mean together.

    A condition that failed decides: whatever else hindered the transaction, it would fail again. Without reasons
    nothing is known, and reading again tells.
    """
    codes = [str(reason.get("Code") or "None") for reason in reasons]
    told = [code for code in codes if code != "None"]
    if not told or any(code in _CONDITION for code in told):
        return Fault(kind=Kind.CONDITION, reason="condition")
    faults = [assess_code(code, status=400) for code in told]
    ended = next((fault for fault in faults if fault.kind is Kind.FATAL), None)
    return ended or faults[0]


def assess_transport(name: str) -> Fault:
    """Return what an error means that came from the client and not from DynamoDB, by the name of its class."""
    if name in _ENDED:
        reason, hint = _ENDED[name]
        return Fault(kind=Kind.FATAL, reason=reason, hint=hint)
    return Fault(kind=Kind.RETRY, reason="unreachable", hint=_REACH)


def backoff_seconds(attempt: int, *, draw: float) -> float:
    """Return how long to wait after the attempt of this number (0 the first): full jitter, `draw` in 0…1.

    Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return draw * min(_MOST_SECONDS, _BASE_SECONDS * 2.0 ** min(attempt, 16))
