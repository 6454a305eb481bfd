"""Predicates from files: what somebody else has made, before it is signed.

What nobody could read later is not signed: a predicate of a type that the gate reads must have that type's form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from pratique.core.errors import CallerError
from pratique.release import predicates
from pratique.release.decoding import decode_json
from pratique.release.errors import EvidenceError
from pratique.release.openvex import Document, require_sound
from pratique.release.policy.decision import Decision
from pratique.release.slsa import Provenance
from pratique.release.statements import MAX_STATEMENT_BYTES

__all__ = ["TYPES", "load_predicate", "type_named"]

TYPES: Final = {
    "approval": predicates.APPROVAL,
    "canary": predicates.CANARY,
    "decision": predicates.DECISION,
    "dependency-diff": predicates.DEPENDENCY_DIFF,
    "dependency-review": predicates.DEPENDENCY_REVIEW,
    "evaluation": predicates.EVALUATION,
    "hygiene": predicates.HYGIENE,
    "provenance": predicates.PROVENANCE,
    "release": predicates.RELEASE,
    "sbom": predicates.SBOM,
    "vex": predicates.VEX,
    "vulnerabilities": predicates.VULNERABILITIES,
}
"""Words for the types that the gate knows."""

_KINDS: Final[dict[str, type]] = {
    predicates.APPROVAL: predicates.Approval,
    predicates.CANARY: predicates.Canary,
    predicates.DECISION: Decision,
    predicates.DEPENDENCY_DIFF: predicates.DependencyDiff,
    predicates.DEPENDENCY_REVIEW: predicates.DependencyReview,
    predicates.EVALUATION: predicates.Evaluation,
    predicates.HYGIENE: predicates.Hygiene,
    predicates.PROVENANCE: Provenance,
    predicates.VEX: Document,
    predicates.VULNERABILITIES: predicates.Scan,
}


def type_named(name: str) -> str:
    """Return the predicate type that a word or a URI names.

    Raises:
        CallerError: it is neither.
    """
    if name in TYPES:
        return TYPES[name]
    if ":" not in name:
        raise CallerError(
            f"expected a predicate's type, got '{name[:100]}'", hint=f"A URI, or one of: {', '.join(TYPES)}."
        )
    return name


def load_predicate(file: Path, predicate_type: str) -> msgspec.Raw:
    """Read a predicate, byte by byte as it stands there.

    Raises:
        CallerError: the file cannot be read.
        EvidenceError: it holds no JSON object, or not one of this type's form.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_STATEMENT_BYTES + 1)
    except OSError as error:
        raise CallerError(f"the predicate {file} cannot be read: {error.strerror}") from error
    try:
        said: object = decode_json(content, _KINDS.get(predicate_type, dict), max_bytes=MAX_STATEMENT_BYTES)
        if isinstance(said, Document):
            require_sound(said)
    except EvidenceError as error:
        raise EvidenceError(f"{file} is no predicate of type '{predicate_type}': {error}") from error
    return msgspec.Raw(content)
