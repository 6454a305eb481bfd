"""Errors of evaluations.

Below or above a threshold is no error: it is what an evaluation says.
"""

from __future__ import annotations

from pratique.core.errors import CallerError, EnvironmentFaultError
from pratique.release.errors import EvidenceError

__all__ = ["GoldenSetError", "IncompleteEvaluationError", "OtherModelError"]


class GoldenSetError(CallerError):
    """A golden set that cannot be used; the message says in which line."""

    code = "invalid_golden_set"


class OtherModelError(EvidenceError):
    """What answered is not what was to be evaluated: another name, another tokenizer, or several builds at once."""

    code = "other_model"


class IncompleteEvaluationError(EnvironmentFaultError):
    """Not every case has a whole answer: nothing is known about the model."""

    code = "evaluation_incomplete"
