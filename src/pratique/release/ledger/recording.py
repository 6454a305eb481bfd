"""What the ledger says of a signed statement that was laid beside an artifact.

Whoever lays one there records it here, so that the gate and the audit miss it where somebody takes it away. An approval
is an entry of its own kind, in the environment that it is for; everything else is "evidence".
"""

from __future__ import annotations

import msgspec

from pratique.release.ledger.interface import Entry, Ledger
from pratique.release.predicates import APPROVAL, Approval
from pratique.release.signing.interface import Attestation
from pratique.release.values import Digest

__all__ = ["RecordedStatement", "record_statement"]


class RecordedStatement(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the entries "evidence" and "approval": which statement, and where it came from."""

    statement: Digest
    bundle: Digest | None = None
    predicate_type: str = ""


def record_statement(ledger: Ledger, subject: Digest, attestation: Attestation) -> Entry:
    """Append that a statement lies beside an artifact; its signer is who did it.

    Raises:
        EvidenceError: it says that it is an approval, and is malformed.
        UnavailableError, VerificationError: as `Ledger.append`.
    """
    statement = attestation.statement
    is_approval = statement.predicate_type == APPROVAL
    return ledger.append(
        "approval" if is_approval else "evidence",
        subject,
        RecordedStatement(
            statement=statement.digest, bundle=attestation.bundle, predicate_type=statement.predicate_type
        ),
        environment=statement.read(Approval).environment if is_approval else "",
        actor=str(attestation.signer),
    )
